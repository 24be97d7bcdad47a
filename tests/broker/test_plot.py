"""bench/plot.py draws what --csv wrote, and says what it cannot draw."""

import pytest
from matplotlib import image
from support.processes import Running

from bench import plot as plot_module

HEAD = 'time_s,published_per_s,confirmed_per_s,min_us,median_us,p75_us,p95_us,p99_us,max_us'


def plot(*argv):
    return Running('bench/plot.py', *argv).end()


def test_two_runs_of_the_same_name_are_drawn_together(tmp_path):
    for name in 'monday', 'tuesday':
        (tmp_path / name).mkdir()
        (tmp_path / name / 'run.csv').write_text(f'{HEAD}\n1.0,9,9,1,2,3,4,5,6\n2.0,0,0,,,,,,\n')
    alone = plot(tmp_path / 'monday' / 'run.csv')
    assert alone.status == 0 and alone.out == f'{tmp_path}/monday/run.png\n', alone.err
    both = plot(
        tmp_path / 'monday' / 'run.csv',
        tmp_path / 'tuesday' / 'run.csv',
        '--out',
        tmp_path / 'both.png',
    )
    assert both.status == 0, both.err
    pictures = [
        image.imread(path) for path in (tmp_path / 'monday' / 'run.png', tmp_path / 'both.png')
    ]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()


def test_a_run_without_confirms_is_drawn(tmp_path):
    (tmp_path / 'run.csv').write_text(f'{HEAD}\n1.0,200,0,,,,,,\n2.0,0,0\n')
    assert plot(tmp_path / 'run.csv').status == 0


def test_latencies_below_0_are_drawn_and_told(tmp_path):
    rows = '1.0,9,9,1,2,3,4,5,6\n2.0,9,9,-3600000,-2,-1,4,5,6\n'
    (tmp_path / 'run.csv').write_text(f'{HEAD}\n{rows}')
    done = plot(tmp_path / 'run.csv')
    assert done.status == 0
    text = 'spoiled by clocks that disagree: latencies below 0'
    assert done.err == f'{tmp_path}/run: {text}\n'
    runs = {'run': plot_module.read(tmp_path / 'run.csv')}
    figure = plot_module.drawn(runs)
    latencies = figure.axes[1]
    assert text in latencies.get_title() and latencies.get_ylim()[0] <= -3600


def test_a_run_of_perf_producer_is_drawn(run, tmp_path):
    flags = '--rate', 50, '--duration', 2.5, '--csv', tmp_path / 'run.csv'
    assert run('perf_producer.py', *flags).status == 0
    assert plot(tmp_path / 'run.csv').status == 0
    assert image.imread(tmp_path / 'run.png').std() > 0


@pytest.mark.parametrize(
    'text, complaint',
    [
        (None, 'No such file'),
        ('', 'did the run last a second'),
        (f'{HEAD}\n', 'did the run last a second'),
        ('a,b\n1,2\n', 'not what --csv writes'),
        (f'{HEAD}\n1.0,x,9,1,2,3,4,5,6\n', 'could not convert'),
        (f'{HEAD}\nnow,9,9,1,2,3,4,5,6\n', 'could not convert'),
    ],
)
def test_a_file_that_cannot_be_drawn_is_reported(tmp_path, capsys, text, complaint):
    """In this process: to load matplotlib takes longer than all the rest."""
    if text is not None:
        (tmp_path / 'run.csv').write_text(text)
    with pytest.raises(SystemExit) as ended:
        plot_module.main([str(tmp_path / 'run.csv')])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert complaint in err
    assert out == ''


def test_a_picture_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / 'run.csv').write_text(f'{HEAD}\n1.0,9,9,1,2,3,4,5,6\n')
    done = plot(tmp_path / 'run.csv', '--out', '/none/run.png')
    assert done.status == 2
    assert 'cannot write /none/run.png' in done.err
    assert 'Traceback' not in done.err
