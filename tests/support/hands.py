"""What a page does to a person who uses it: clicks that get lost, things that move."""

import random

HELD_MS = 110  # a mouse button is, by an unhurried hand

# A click that arrives is noted, and does nothing more.
NOTE_CLICKS = """() => {
    const on = (event) => event.target.closest('a, button')
    document.addEventListener('pointerdown', (event) => {
        window.pressed = on(event)
        window.clicked = null
    }, true)
    document.addEventListener('click', (event) => {
        window.clicked = on(event)
        event.preventDefault()
        event.stopPropagation()
    }, true)
}"""
NOTE_SHIFTS = """() => {
    window.shifts = []
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
            if (!entry.hadRecentInput) window.shifts.push([entry.startTime, entry.value])
        }
    }).observe({type: 'layout-shift', buffered: true})
}"""


def lost_clicks(tab, elements, presses):
    """Press elements at random moments; return how many presses were no click on them."""
    tab.evaluate(NOTE_CLICKS)
    lost = 0
    for _ in range(presses):
        element = random.choice(elements)
        element.hover()
        tab.wait_for_timeout(random.randrange(300))
        tab.mouse.down()
        tab.wait_for_timeout(HELD_MS)
        tab.mouse.up()
        lost += not tab.evaluate('window.pressed && window.clicked === window.pressed')
    return lost


def layout_shift(tab):
    """Return the cumulative layout shift since NOTE_SHIFTS: that of the worst session.

    A session is at most 5 s, with at most 1 s between two shifts (web.dev/cls).
    """
    worst = total = 0
    begun = last = None
    for at, value in tab.evaluate('window.shifts'):
        if begun is None or at - last > 1000 or at - begun > 5000:
            begun = at
            total = 0
        last = at
        total += value
        worst = max(worst, total)
    return worst
