#!/usr/bin/env bash
# Whose surprise: domain (NLnet Labs' DNS library), version 0.12.3, its transport over UDP (`net::client::dgram`), on tokio 1.54.1.
#
# Guess, before anything was run: the transport connects its socket, so that a name server's port where nobody listens is told by ICMP, and the
# question fails at once with "connection refused", as it does with a connected socket of the standard library.
#
# Instead: nobody hears of the refusal. The kernel reports it (epoll: EPOLLERR, without EPOLLIN), but a task that waits in tokio's
# `UdpSocket::poll_recv` is woken for something to read only. The question waits for the whole time, is sent again, and fails as "timeout". A
# resolver that asks its servers in turn loses that time with each server whose daemon is down, though its host is up.
#
# What helps: wait for `Interest::READABLE` and `Interest::ERROR` (`UdpSocket::ready`), then receive, with `try_io` for one of both: for both at
# once `try_io` never calls what it is given, which is the next surprise (it returns `WouldBlock` for ever).
#
# Seen:
#   standard library: Connection refused (os error 111) after 0.0 s
#   domain: reading response failed: timeout expired after 2.0 s
#   tokio, ready for both: true, try_io for both: operation would block, for errors alone: Connection refused (os error 111)
#
# Needs cargo. Asks nobody but 127.0.0.1.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "closed-port"
version = "0.0.0"
edition = "2024"

[dependencies]
domain = { version = "=0.12.3", default-features = false, features = ["std", "unstable-client-transport"] }
tokio = { version = "=1.54.1", features = ["macros", "net", "rt", "time"] }
TOML
cat > src/main.rs <<'RUST'
use std::{io, net::UdpSocket, time::{Duration, Instant}};

use domain::{
    base::{MessageBuilder, Name, Rtype},
    net::client::{dgram, protocol::UdpConnect, request::{Error, RequestMessage, SendRequest}},
};
use tokio::io::Interest;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // A port that was free a moment ago.
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    let begin = Instant::now();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(closed).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send(b"question").unwrap();
    let refused = socket.recv(&mut [0; 100]).unwrap_err();
    println!("standard library: {refused} after {:.1} s", begin.elapsed().as_secs_f32());
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    let mut config = dgram::Config::new();
    config.set_read_timeout(Duration::from_secs(1));
    config.set_max_retries(1);
    let connection = dgram::Connection::with_config(UdpConnect::new(closed), config);
    let mut question = MessageBuilder::new_vec().question();
    question.push((Name::vec_from_str("sip.provider.example").unwrap(), Rtype::A)).unwrap();
    let mut request = connection.send_request(RequestMessage::new(question.into_message()).unwrap());
    let begin = Instant::now();
    let Err(Error::Dgram(error)) = request.get_response().await else { panic!("an answer from nobody") };
    println!("domain: {error} after {:.1} s", begin.elapsed().as_secs_f32());
    let silent = matches!(error.kind(), dgram::QueryErrorKind::Timeout) && begin.elapsed() > Duration::from_millis(1900);

    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(closed).await.unwrap();
    socket.send(b"question").await.unwrap();
    let both = Interest::READABLE.add(Interest::ERROR);
    let ready = socket.ready(both).await.unwrap();
    let receive = || socket.take_error().map(|error| error.map(|error| error.to_string()));
    let at_once = socket.try_io(both, receive);
    let alone = socket.try_io(Interest::ERROR, receive).unwrap();
    println!(
        "tokio, ready for both: {}, try_io for both: {}, for errors alone: {}",
        ready.is_error(),
        at_once.as_ref().map_or_else(io::Error::to_string, |_| "called".to_owned()),
        alone.as_deref().unwrap_or("nothing")
    );
    std::process::exit(i32::from(!(silent && at_once.is_err() && alone.is_some())));
}
RUST
cargo run --quiet
