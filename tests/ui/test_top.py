"""`devenv top` on a terminal of its own: what it shows at 60 columns, keys, the mouse, and what it leaves behind."""
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time, unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from world import BINARY, PATIENCE, world

# What gives a terminal back: no reports of the mouse, lines wrap, the cursor, the screen of before.
GIVEN_BACK = ("\x1b[?1006l", "\x1b[?1000l", "\x1b[?7h", "\x1b[?25h", "\x1b[?1049l")


class Terminal:
    """A terminal with `devenv top` in it."""

    def __init__(self, world, columns=60, rows=20):
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.output = ""
        controlling = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen([BINARY, "top"], cwd=world.root / "project", env={**world.variables, "TERM": "xterm"}, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True, preexec_fn=controlling)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns, rows):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys):
        os.write(self.master, keys.encode())

    def read(self):
        while select.select([self.master], [], [], 0.1)[0]:
            self.output += os.read(self.master, 65536).decode(errors="replace")

    def frame(self):
        """The lines of the last frame that is complete."""
        self.read()
        frames = [one for one in self.output.split("\x1b[H") if one.endswith("\x1b[J") or "\x1b[J" in one]
        return re.split(r"\r*\n", re.sub(r"\x1b\[[0-9;?<]*[A-Za-z]", "", frames[-1])) if frames else []

    def until(self, what, holds):
        deadline = time.time() + PATIENCE / 1000
        while not holds(self.frame()):
            assert time.time() < deadline, f"never: {what}: {self.output[-3000:]!r}"
            assert self.process.poll() is None or "end" in what, f"it ended before: {what}: {self.output[-3000:]!r}"
        return self.frame()

    def ended(self):
        self.process.wait(timeout=PATIENCE / 1000)
        self.read()
        return self.process.returncode


class Top(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = cls.enterClassContext(world())

    def given_back(self, terminal):
        self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before)
        for sequence in GIVEN_BACK:
            self.assertIn(sequence, terminal.output)
        rest = terminal.output.rsplit("\x1b[?1049l", 1)[1]
        self.assertNotIn("\x1b[?", rest)
        return rest

    def test_sixty_columns_show_services_output_events_and_follow_keys_and_the_mouse(self):
        with Terminal(self.world) as terminal:
            frame = terminal.until("services", lambda lines: any("web" in line and "ready" in line for line in lines) and any("tock" in line for line in lines))
            self.assertTrue(all(len(line) <= 60 for line in frame), frame)
            web = next(at for at, line in enumerate(frame) if "web" in line)
            terminal.press(f"\x1b[<0;5;{web + 1}M\x1b[<0;5;{web + 1}m")
            terminal.until("web is selected", lambda lines: any("output of web" in line for line in lines))
            terminal.press("e")
            terminal.until("events", lambda lines: any("web is ready" in line for line in lines))
            terminal.press("s")
            terminal.until("web is stopped", lambda lines: any("web" in line and "stopped" in line for line in lines[1:6]))
            terminal.press("u")
            terminal.until("web is ready again", lambda lines: any("web" in line and "ready" in line for line in lines[1:6]))
            terminal.press("a/tock 1\r")
            terminal.press("e")
            terminal.until("the filter", lambda lines: any("filter: tock 1" in line for line in lines) and not any("tock 2" in line for line in lines))
            terminal.resize(200, 40)
            terminal.until("the new size", lambda lines: len(lines) == 40 and any("q quit" in line for line in lines))
            terminal.press("q")
            self.assertEqual(terminal.ended(), 0)
            self.assertEqual(self.given_back(terminal), "")

    def test_ctrl_c_and_a_signal_give_the_terminal_back(self):
        for end in (lambda terminal: terminal.press("\x03"), lambda terminal: terminal.process.send_signal(signal.SIGTERM)):
            with Terminal(self.world) as terminal:
                terminal.until("services", lambda lines: any("web" in line for line in lines))
                end(terminal)
                self.assertNotEqual(terminal.ended(), 0)
                self.given_back(terminal)

    def test_a_lost_daemon_gives_the_terminal_back_and_is_told(self):
        with world() as here, Terminal(here) as terminal:
            terminal.until("services", lambda lines: any("web" in line for line in lines))
            here.run("daemon", "stop")
            self.assertNotEqual(terminal.ended(), 0)
            self.assertIn("error", self.given_back(terminal).lower())


if __name__ == "__main__":
    unittest.main()
