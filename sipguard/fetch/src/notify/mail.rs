//! Mail: over SMTP (RFC 5321), with TLS from the beginning or by STARTTLS (RFC 3207), unless it may go in the plain.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use lettre::{
    Message as Email,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{
            AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
        },
        extension::ClientId,
    },
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use sipguard_lists::notify::{Mail, Smtp};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Way,
    message::{self, Message},
    said,
};
use crate::{
    credential,
    http::{self, Resolver},
};

/// How long it may all take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long one address is tried.
const CONNECT: Duration = Duration::from_secs(10);
/// The most bytes that a server may say.
const MOST: usize = 1 << 18;

/// See the module.
pub(super) struct OverSmtp {
    pub(super) mail: Mail,
    pub(super) resolver: Resolver,
}

impl Way for OverSmtp {
    fn send(&self, message: &Message<'_>) -> Result<(), String> {
        let email = email(&self.mail, message)?;
        let password = match &self.mail.user {
            Some(user) => Some(Credentials::new(
                user.name.clone(),
                credential::read(&user.password_file)?,
            )),
            None => None,
        };
        let Smtp { host, port, .. } = &self.mail.smtp;
        let found = self.resolver.addresses(host, PATIENCE);
        let found = found.map_err(|error| format!("{host}: {}", http::told(&error)))?;
        let addresses: Vec<_> = found
            .into_iter()
            .map(|address| SocketAddr::new(address, *port))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            match timeout(PATIENCE, self.talk(&addresses, &email, password)).await {
                Ok(sent) => sent,
                Err(_) => Err(format!("{host} takes too long")),
            }
        })
    }
}

impl OverSmtp {
    async fn talk(
        &self,
        addresses: &[SocketAddr],
        email: &Email,
        password: Option<Credentials>,
    ) -> Result<(), String> {
        let Smtp {
            host, implicit_tls, ..
        } = &self.mail.smtp;
        let stream = connect(addresses)
            .await
            .map_err(|error| format!("{host}: {}", said(&error)))?;
        let peer = stream.peer_addr().map_err(|error| error.to_string())?;
        let hello = ClientId::Domain(hello());
        let of_server = |error: Error| format!("{host}: {}", said(&error));
        let mut connection = if *implicit_tls {
            let name =
                ServerName::try_from(host.clone()).map_err(|error| format!("{host}: {error}"))?;
            let tls = TlsConnector::from(config(self.mail.ca_file.as_deref())?);
            let stream = tls.connect(name, stream).await;
            let stream = stream.map_err(|error| format!("{host}: {}", said(&error)))?;
            let stream = Box::new(Bounded::new(stream, peer));
            AsyncSmtpConnection::connect_with_transport(stream, &hello)
                .await
                .map_err(of_server)?
        } else {
            let stream = Box::new(Bounded::new(stream, peer));
            let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &hello)
                .await
                .map_err(of_server)?;
            if !self.mail.may_be_plain() {
                if !connection.can_starttls() {
                    return Err(format!(
                        "{host} has no STARTTLS, and everybody on the way could read it; insecure allows that"
                    ));
                }
                let tls = parameters(host, self.mail.ca_file.as_deref())?;
                connection.starttls(tls, &hello).await.map_err(of_server)?;
            }
            connection
        };
        if let Some(password) = password {
            let ways = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&ways, &password).await.map_err(of_server)?;
        }
        connection
            .send(email.envelope(), &email.formatted())
            .await
            .map_err(of_server)?;
        // It has been taken.
        let _ = connection.quit().await;
        Ok(())
    }
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

fn email(mail: &Mail, message: &Message<'_>) -> Result<Email, String> {
    let mailbox = |text: &str| {
        text.parse::<Mailbox>()
            .map_err(|error| format!("{text}: {error}"))
    };
    let mut email = Email::builder().from(mailbox(&mail.from)?);
    for to in &mail.to {
        email = email.to(mailbox(to)?);
    }
    // RFC 3834: nobody is to answer it by himself.
    let automatic = HeaderValue::new(
        HeaderName::new_from_ascii_str("Auto-Submitted"),
        "auto-generated".to_owned(),
    );
    let email = email
        .subject(message.subject())
        // A repetition has the same.
        .message_id(Some(format!("<{}@{}>", message.id(), hello())))
        .raw_header(automatic)
        .header(ContentType::TEXT_PLAIN)
        .body(format!("{}\n", message.text()));
    email.map_err(|error| error.to_string())
}

/// This host, as servers want to hear it.
fn hello() -> String {
    let is_part = |letter: &char| letter.is_ascii_alphanumeric() || ".-".contains(*letter);
    let host: String = message::host().chars().filter(is_part).collect();
    if host.is_empty() {
        "localhost".to_owned()
    } else {
        host
    }
}

fn parameters(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, String> {
    let mut builder =
        TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
    for authority in http::authorities(ca_file, false)? {
        // One that can't be read is none.
        if let Ok(authority) = Certificate::from_der(authority.der().to_owned()) {
            builder = builder.add_root_certificate(authority);
        }
    }
    builder.build().map_err(|error| said(&error))
}

fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let authorities = http::authorities(ca_file, false)?;
    roots.add_parsable_certificates(
        authorities
            .iter()
            .map(|authority| authority.der().to_owned().into()),
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// What a server says, byte by byte, and not for ever. What stands behind an answer was said before the next question, and with it before TLS:
/// so nobody has it in his hands, where it would count as said within TLS.
#[derive(Debug)]
struct Bounded<S> {
    stream: S,
    peer: SocketAddr,
    left: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            left: MOST,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Poll::Ready(Err(io::Error::other("it says too much")));
        };
        self.left = left;
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut one))?;
        buffer.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> AsyncTokioStream
    for Bounded<S>
{
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
