"""A studio on a free port of this machine, and a browser that looks at it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

from tests import browser
from tokenry.apps.studio.app import Studio


@contextmanager
def served(*readers, **settings):
    """The address of a studio."""
    config = uvicorn.Config(Studio(readers, **settings).app(), port=0, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    here = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([here],), daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{here.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def looking(**options):
    """A page of a browser; what it complains about is in its list `faults`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        program = player.chromium.launch(executable_path=browser.find(), args=["--no-sandbox"])
        try:
            yield page_of(program, **options)
        finally:
            program.close()


def page_of(program, **options):
    """A new page that knows nothing of others."""
    page = program.new_context(accept_downloads=True, **options).new_page()
    page.faults = []
    page.on("console", lambda said: page.faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    return page


def opened(page, address):
    """The studio, ready for hands."""
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    return page


def drawn(page, act):
    """Do something, and wait until its results are drawn."""
    before = page.evaluate("Number(document.documentElement.dataset.drawn || 0)")
    act()
    page.wait_for_function("n => Number(document.documentElement.dataset.drawn || 0) > n", arg=before)
    page.wait_for_selector("#progress", state="hidden")


def panes(page, count):
    """Wait until so many results are shown side by side."""
    page.wait_for_function("n => document.querySelectorAll('.pane').length === n", arg=count)
