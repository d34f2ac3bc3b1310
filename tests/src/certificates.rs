//! Certificates for servers of tests.

use std::{path::Path, process::Command};

/// Makes in a folder an authority (`ca.pem`), a certificate of it for a server's address and two names (`server.pem`, `server.key`), and somebody else's
/// (`another.pem`).
pub fn certify(folder: &Path, address: &str) {
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        let made = command
            .current_dir(folder)
            .args(words.split_whitespace())
            .output()
            .expect("it is declared");
        assert!(made.status.success(), "{made:?}");
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!(
        "{new} -subj /CN=authority -keyout ca.key -out ca.pem"
    ));
    openssl(&format!(
        "{new} -subj /CN=server -addext subjectAltName=IP:{address},DNS:feeds.example,DNS:lists.internal -addext basicConstraints=critical,CA:FALSE -CA ca.pem -CAkey ca.key \
         -keyout server.key -out server.pem"
    ));
    openssl(&format!(
        "{new} -subj /CN=another -keyout another.key -out another.pem"
    ));
}
