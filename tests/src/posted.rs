//! A web server of as few words as there can be, which remembers what was posted to it. No other one answers with what a test wants just then.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::netns::{Host, until};

/// See the module.
#[derive(Clone)]
pub struct Posted {
    bodies: Arc<Mutex<Vec<Value>>>,
    answer: Arc<Mutex<&'static str>>,
}

impl Posted {
    /// What nginx says to be in front of it, with TLS.
    pub const BEHIND: &str = "location / { proxy_pass http://127.0.0.1:8080; }";
    /// Where it listens.
    pub const PORT: u16 = 8_080;
    /// The answer that says that it has been taken.
    pub const TAKEN: &str = "204 No Content";

    /// Begins to serve, on a host's loopback address.
    #[must_use]
    pub fn on(host: &Host) -> Self {
        let posted = Self {
            bodies: Arc::default(),
            answer: Arc::new(Mutex::new(Self::TAKEN)),
        };
        let listener = host.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, Self::PORT)));
        let listener = listener.expect("a port that is free");
        let server = posted.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                server.serve(stream.expect("somebody connects"));
            }
        });
        posted
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let mut buffer = [0; 4_096];
        let body = loop {
            let Ok(count @ 1..) = stream.read(&mut buffer) else {
                return;
            };
            request.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let lower = head.to_ascii_lowercase();
                assert!(
                    lower.starts_with("post ") && lower.contains("content-type: application/json"),
                    "{head}"
                );
                let length = lower.split("content-length: ").nth(1).expect("a length");
                let length: usize = length
                    .lines()
                    .next()
                    .and_then(|it| it.trim().parse().ok())
                    .expect("a number");
                if body.len() >= length {
                    break body.to_owned();
                }
            }
        };
        let answer = *self.answer.lock().expect("nobody broke");
        if answer == Self::TAKEN {
            let body = serde_json::from_str(&body).expect("it is JSON");
            self.bodies.lock().expect("nobody broke").push(body);
        }
        let answer = format!(
            "HTTP/1.1 {answer}\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        // Who has hung up does not want it.
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
    }

    /// Answers so from now on; what is not taken is not remembered.
    pub fn answers(&self, answer: &'static str) {
        *self.answer.lock().expect("nobody broke") = answer;
    }

    /// All that was taken.
    #[must_use]
    pub fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().expect("nobody broke").clone()
    }

    /// Waits until so many have come, and no more.
    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        until("it was posted", || self.bodies().len() >= count);
        let bodies = self.bodies();
        assert_eq!(bodies.len(), count, "{bodies:?}");
        bodies
    }
}
