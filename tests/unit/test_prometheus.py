"""prometheus.py: counters never fall."""

from support.builders import NOON, letter

from siamese.monitoring import database, dead_letters, prometheus


def test_the_counter_of_dead_letters_does_not_fall_when_they_are_forgotten(tmp_path):
    db = database.open_for_writing(str(tmp_path / 'siamese.db'))

    def told():
        return {
            tuple(sample.labels.values()): sample.value
            for family in prometheus.Collector(db_path).collect()
            for sample in family.samples
            if sample.name == 'siamese_dead_letters_total'
        }

    db_path = str(tmp_path / 'siamese.db')
    dead_letters.insert(db, [letter(1), letter(2), letter(3, reason='rejected')], 's', NOON)
    assert told() == {('q', 'expired'): 2, ('q', 'rejected'): 1}
    database.forget(db, NOON + 1, NOON + 1)
    assert dead_letters.find(db)[1] == 0 and told() == {
        ('q', 'expired'): 2,
        ('q', 'rejected'): 1,
    }
    dead_letters.insert(db, [letter(4)], 's', NOON + 2)
    assert told() == {('q', 'expired'): 3, ('q', 'rejected'): 1}
