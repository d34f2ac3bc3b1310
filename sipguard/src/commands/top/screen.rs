//! The terminal while `top` has it: keys come as they are pressed, and what stood there before comes back at the end, however that comes: an
//! error, a panic or a signal that the loop hears of.

use std::{
    io::{self, Stdout, Write as _, stdout},
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        style::ResetColor,
        terminal::{
            Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
            enable_raw_mode, size,
        },
    },
    layout::Rect,
};

/// Whether it is ours, so that it is given back once.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal; dropped, it is given back.
pub(super) struct Screen {
    canvas: Canvas,
}

/// As large as the terminal was when it was made.
struct Canvas {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    area: Rect,
}

impl Canvas {
    fn new() -> io::Result<Self> {
        let (width, height) = size()?;
        let area = Rect::new(0, 0, width, height);
        // Of a viewport that follows the terminal's size, the library asks where the cursor is, and waits for an answer that not every
        // terminal gives.
        let viewport = Viewport::Fixed(area);
        let terminal = Terminal::with_options(
            CrosstermBackend::new(stdout()),
            TerminalOptions { viewport },
        )?;
        execute!(stdout(), Clear(ClearType::All))?;
        Ok(Self { terminal, area })
    }
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // What it says is to be read on the screen that was there before.
            give_back();
            before(panic);
        }));
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let canvas = execute!(stdout(), EnterAlternateScreen, Hide).and_then(|()| Canvas::new());
        if canvas.is_err() {
            give_back();
        }
        canvas.map(|canvas| Self { canvas })
    }

    /// Draws, after a change of the size everything.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let (width, height) = size()?;
        let area = self.canvas.area;
        if (width, height) != (area.width, area.height) {
            self.clear()?;
        }
        if !self.canvas.area.is_empty() {
            self.canvas.terminal.draw(draw)?;
        }
        Ok(())
    }

    /// Has everything drawn anew.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.canvas = Canvas::new()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Where that fails there is no terminal any more.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), ResetColor, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = stdout().flush();
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test waits by the clock")]
mod tests {
    use std::{
        env, fs,
        path::Path,
        process::{Child, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// Says that this process is to take the terminal and to fail.
    const FAIL: &str = "SIPGUARD_TEST_TAKES_THE_TERMINAL";

    /// tmux, which ends with this.
    struct Tmux<'f> {
        folder: &'f Path,
        server: Child,
    }

    impl Drop for Tmux<'_> {
        fn drop(&mut self) {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }

    impl Tmux<'_> {
        fn run(&self, arguments: &[&str]) -> String {
            let socket = self.folder.join("tmux");
            // It starts no other server, which it would where ours is not there yet.
            let ran = Command::new("tmux")
                .args(["-N", "-S"])
                .arg(socket)
                .args(arguments)
                .output();
            String::from_utf8_lossy(&ran.unwrap().stdout).into_owned()
        }

        fn until(&self, arguments: &[&str], wanted: &str) -> String {
            let began = Instant::now();
            loop {
                let said = self.run(arguments);
                if said.contains(wanted) {
                    return said;
                }
                assert!(
                    began.elapsed() < Duration::from_mins(1),
                    "no {wanted:?}: {said}"
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// In a real terminal: this test starts itself there.
    #[test]
    fn a_panic_gives_the_terminal_back_and_can_be_read() {
        if env::var_os(FAIL).is_some() {
            let mut screen = Screen::take().unwrap();
            screen
                .draw(|frame| frame.render_widget("taken", frame.area()))
                .unwrap();
            panic!("this is what was wrong");
        }
        let folder = tempfile::tempdir().unwrap();
        let mut server = Command::new("tmux");
        let server = server.arg("-S").arg(folder.path().join("tmux"));
        let tmux = Tmux {
            folder: folder.path(),
            server: server
                .args(["-f", "/dev/null", "-D"])
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        };
        tmux.until(&["display-message", "-p", "up"], "up");
        let test = env::current_exe().unwrap();
        let name = "commands::top::screen::tests::a_panic_gives_the_terminal_back_and_can_be_read";
        let script = format!(
            "echo before; env {FAIL}=1 RUST_BACKTRACE=0 {} --exact {name} --nocapture; stty -a > {}; sleep 100",
            test.display(),
            folder.path().join("settings").display(),
        );
        tmux.run(&["new-session", "-d", "-x", "100", "-y", "24", &script]);
        let shown = tmux.until(&["capture-pane", "-p"], "this is what was wrong");
        assert!(shown.contains("before"), "{shown}");
        let shown = tmux.until(&["capture-pane", "-p"], "FAILED");
        assert!(!shown.contains("taken"), "{shown}");
        let state = tmux.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1");
        let settings = folder.path().join("settings");
        let began = Instant::now();
        while !settings.exists() || fs::read_to_string(&settings).unwrap().is_empty() {
            assert!(began.elapsed() < Duration::from_mins(1));
            thread::sleep(Duration::from_millis(20));
        }
        let settings = fs::read_to_string(settings).unwrap();
        assert!(
            settings.contains(" icanon") && settings.contains(" echo "),
            "{settings}"
        );
    }
}
