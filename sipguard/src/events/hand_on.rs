//! Handing events on: one process listens to the kernel, and others listen to that one, over a socket.
//!
//! A message is an event: the length of its JSON and how many were lost before it (both as numbers of this host), the JSON, and the frame's first bytes. A
//! client's only message is what it wants. Whoever reads too slowly loses events, which are counted, and holds up nobody.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
        bind, connect, listen, recv, send, socket_with,
    },
};

use super::{Event, Wanted};

/// Where the agent hands on.
pub const PATH: &str = "/run/sipguard/events";

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// How many clients may wait until they are let in.
const WAITING: i32 = 16;
/// How many clients there may be.
const MOST: usize = 64;
/// Longer than any message, in bytes.
const LONGEST: usize = 64 << 10;
/// What is in front of the JSON, in bytes: its length, and how many were lost.
const HEADER: usize = 4 + 8;

/// The side that listens to the kernel.
#[derive(Debug)]
pub struct Server {
    socket: OwnedFd,
    path: PathBuf,
    readers: Vec<Reader>,
}

/// One that it hands on to.
#[derive(Debug)]
struct Reader {
    socket: OwnedFd,
    wanted: Option<Wanted>,
    lost: u64,
}

impl Server {
    /// Makes the socket, which only this user may use. One that an ended process has left there is taken away.
    ///
    /// # Errors
    /// Where another server is there, or the system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        if connected(path)?.is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = socket()?;
        // What is bound gets the socket's rights, so that there is no moment with others.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, WAITING)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            readers: Vec::new(),
        })
    }

    /// Lets in who came, hears what they want, and forgets who has gone.
    ///
    /// # Errors
    /// What the system refused.
    pub fn welcome(&mut self) -> io::Result<()> {
        loop {
            match accept_with(&self.socket, FLAGS) {
                Ok(socket) if self.readers.len() < MOST => self.readers.push(Reader {
                    socket,
                    wanted: None,
                    lost: 0,
                }),
                // One too many is let go again.
                Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        self.readers.retain_mut(Reader::hear);
        Ok(())
    }

    /// What all of them together want; nothing where there is none.
    pub fn wanted(&self) -> Option<Wanted> {
        let wanted = self.readers.iter().filter_map(|reader| reader.wanted);
        wanted.reduce(|one, other| Wanted {
            passes: one.passes || other.passes,
            bytes: one.bytes.max(other.bytes),
        })
    }

    /// Hands an event to all who want it.
    pub fn send(&mut self, event: &Event) {
        let mut message = None;
        self.readers.retain_mut(|reader| {
            if !reader.wanted.is_some_and(|wanted| wanted.takes(event)) {
                return true;
            }
            let message = message.get_or_insert_with(|| packed(event));
            message[4..HEADER].copy_from_slice(&reader.lost.to_ne_bytes());
            match send(
                &reader.socket,
                message,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(_) => true,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {
                    reader.lost += 1;
                    true
                }
                Err(_) => false,
            }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it stays, the next server takes it away.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl AsFd for Server {
    /// Can be read whenever [`Self::welcome`] is to be called.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Reader {
    /// Whether it is still there.
    fn hear(&mut self) -> bool {
        let mut buffer = [0; 256];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok((length, _)) => match serde_json::from_slice(&buffer[..length]) {
                    Ok(wanted) => self.wanted = Some(wanted),
                    Err(_) => return false,
                },
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// The other side.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    buffer: Vec<u8>,
    lost: u64,
}

impl Client {
    /// Asks the server there for what is wanted; `None` where there is no server.
    ///
    /// # Errors
    /// What the system refused.
    pub fn connect(path: &Path, wanted: Wanted) -> io::Result<Option<Self>> {
        let Some(socket) = connected(path)? else {
            return Ok(None);
        };
        let wish = serde_json::to_vec(&wanted)?;
        send(&socket, &wish, SendFlags::NOSIGNAL)?;
        Ok(Some(Self {
            socket,
            buffer: vec![0; LONGEST],
            lost: 0,
        }))
    }

    /// Hands on what has come; returns whether the server is still there.
    ///
    /// # Errors
    /// What the system refused; what is no event.
    pub fn read(&mut self, mut each: impl FnMut(Event)) -> io::Result<bool> {
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(false),
                Ok((length, _)) => {
                    let (event, lost) = unpacked(&self.buffer[..length])?;
                    self.lost = lost;
                    each(event);
                }
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// How many events we were too slow for.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl AsFd for Client {
    /// Can be read whenever [`Self::read`] is to be called.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        FLAGS,
        None,
    )?)
}

/// A connection to whoever is there.
fn connected(path: &Path) -> io::Result<Option<OwnedFd>> {
    let socket = socket()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn packed(event: &Event) -> Vec<u8> {
    let json = serde_json::to_vec(event).expect("all its fields are texts and numbers");
    let length = u32::try_from(json.len()).expect("a frame's first bytes make few words");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend([0; 8]);
    message.extend(json);
    message.extend(&event.bytes);
    message
}

fn unpacked(message: &[u8]) -> io::Result<(Event, u64)> {
    let unpacked = || {
        let (length, rest) = message.split_first_chunk()?;
        let (lost, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let (json, bytes) = rest.split_at_checked(length)?;
        let event: Event = serde_json::from_slice(json).ok()?;
        let event = Event {
            bytes: bytes.to_vec(),
            ..event
        };
        Some((event, u64::from_ne_bytes(*lost)))
    };
    unpacked().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what came is no event"))
}

#[cfg(test)]
mod tests;
