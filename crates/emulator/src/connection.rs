//! A byte stream to an emulator: a UNIX socket, or TCP.
//!
//! Whoever is at the other end, a read or a write takes no longer than the caller allows.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A connected stream.
#[derive(Debug)]
pub enum Connection {
    /// A UNIX socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
}

impl Connection {
    /// Connects to `place`: the path of a UNIX socket, or `HOST:PORT`; QEMU's own prefixes `unix:` and `tcp:` may
    /// stand before it. What holds a `/` or has no `:` is a path.
    ///
    /// # Errors
    ///
    /// What the operating system says when nobody listens there.
    pub fn open(place: &str) -> io::Result<Connection> {
        if let Some(path) = place.strip_prefix("unix:") {
            return Ok(Connection::Unix(unix(path, CONNECT_LIMIT)?));
        }
        let address = place.strip_prefix("tcp:").unwrap_or(place);
        let named = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if address == place && (place.contains('/') || !named) {
            return Ok(Connection::Unix(unix(place, CONNECT_LIMIT)?));
        }
        let mut last = io::ErrorKind::NotFound.into();
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                Ok(stream) => {
                    // Commands are small and wait for their answers.
                    stream.set_nodelay(true)?;
                    return Ok(Connection::Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sets how long one read may take. Zero is taken for the shortest time there is.
    pub(crate) fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Connection::Unix(stream) => stream.set_read_timeout(limit),
            Connection::Tcp(stream) => stream.set_read_timeout(limit),
        }
    }

    /// Sets how long one write may take.
    pub(crate) fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Connection::Unix(stream) => stream.set_write_timeout(Some(limit)),
            Connection::Tcp(stream) => stream.set_write_timeout(Some(limit)),
        }
    }
}

/// Connects to a UNIX socket. A server that takes nobody any more would let [`UnixStream::connect`] wait for ever.
fn unix(path: &str, limit: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    net::connect(&socket, &address)?;
    Ok(socket.into())
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Connection {
        Connection::Unix(stream)
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.read(buffer),
            Connection::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.write(buffer),
            Connection::Tcp(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Connection::Unix(stream) => stream.flush(),
            Connection::Tcp(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn both_kinds_of_places_are_understood() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("monitor:1");
        let _listener = UnixListener::bind(&path).expect("a socket");
        let path = path.to_str().expect("a path in UTF-8").to_owned();
        assert!(matches!(Connection::open(&path), Ok(Connection::Unix(_))));
        assert!(matches!(Connection::open(&format!("unix:{path}")), Ok(Connection::Unix(_))));

        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        assert!(matches!(Connection::open(&address), Ok(Connection::Tcp(_))));
        assert!(matches!(Connection::open(&format!("tcp:{address}")), Ok(Connection::Tcp(_))));
    }

    #[test]
    fn a_server_that_takes_nobody_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("full").to_str().expect("UTF-8").to_owned();
        let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddrUnix::new(&*path).expect("a path")).expect("a name");
        net::listen(&socket, 0).expect("a listener");
        let mut waiting = Vec::new();
        let full = (0..8).find_map(|_| {
            let connected = unix(&path, Duration::from_millis(50));
            connected.map(|stream| waiting.push(stream)).err()
        });
        assert_eq!(full.expect("a refusal").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn nobody_there_is_an_error() {
        for place in ["/nonexistent/socket", "nonexistent", "tcp:", "127.0.0.1:1"] {
            assert!(Connection::open(place).is_err(), "{place}");
        }
    }
}
