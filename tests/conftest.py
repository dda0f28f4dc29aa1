"""What every test may rely on."""

import signal


def pytest_configure() -> None:
    """Let interrupts interrupt: started in the background, a test run would ignore them, its children too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
