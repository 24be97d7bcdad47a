"""How somebody who is logged in marks dead letters as seen: all that the dashboard writes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from common import Failure
from siamese.monitoring import database, dead_letters
from siamese.text import count_of
from siamese.web.page import Page
from siamese.web.widgets import tell


async def mark_seen(page: Page, **which: Any) -> bool:
    """Mark the dead letters of dead_letters.mark_seen(); return whether that was possible."""
    session = page.session()
    if session is None:
        return False

    def write() -> int:
        opened = database.open_for_writing(page.args.history)
        with contextlib.closing(opened) as db:
            return dead_letters.mark_seen(db, session.user, time.time(), **which)

    try:
        marked = await asyncio.to_thread(write)
    except Failure as failure:
        tell(1, str(failure))
        return False
    except database.FAULTS as error:
        tell(1, str(database.failure_of(error, page.args.history)))
        return False
    tell(0, f'{count_of(marked, "dead letter")} marked as seen')
    return True
