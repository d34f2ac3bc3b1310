//! Asking over HTTP and TLS.

mod resolver;

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use sipguard_lists::said::Message;
use ureq::{
    Agent, Error,
    config::ConfigBuilder,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
    typestate::AgentScope,
    unversioned::transport::DefaultConnector,
};

pub(crate) use self::resolver::Resolver;

/// How long it may all take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What all requests have in common. Trusted are the authorities of `ca_file`, or else the system's, without which nobody can do who must not
/// ask in the plain.
pub(crate) fn config(
    ca_file: Option<&Path>,
    may_be_plain: bool,
) -> Result<ConfigBuilder<AgentScope>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::new_with_certs(&authorities(
            ca_file,
            may_be_plain,
        )?))
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .user_agent(concat!("sipguard-fetch/", env!("CARGO_PKG_VERSION")))
        // Tags of compressed copies do not match again with every server.
        .accept_encoding("identity"))
}

/// Whoever asks; who a host is, this resolver knows.
pub(crate) fn agent(config: ConfigBuilder<AgentScope>, resolver: &Resolver) -> Agent {
    Agent::with_parts(config.build(), DefaultConnector::new(), resolver.clone())
}

/// Who says whose a key is: those of `ca_file`, or else the system's.
pub(crate) fn authorities(
    ca_file: Option<&Path>,
    may_be_plain: bool,
) -> Result<Vec<Certificate<'static>>, String> {
    let Some(file) = ca_file else {
        let found = rustls_native_certs::load_native_certs();
        let certificates = found.certs.iter();
        let certificates: Vec<_> = certificates
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
        if certificates.is_empty() && !may_be_plain {
            return Err("this system trusts no authority; install ca-certificates".to_owned());
        }
        return Ok(certificates);
    };
    let pem = fs::read(file);
    let pem = pem.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
    let items = items.map_err(|error| format!("{}: {error}", file.display()))?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(format!("{} has no certificate in PEM", file.display()));
    }
    Ok(certificates)
}

/// What went wrong while an answer was read, as it is told.
pub(crate) fn while_reading(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(inner) => io::Error::other(told(inner)),
        None => error,
    }
}

/// What went wrong, which may quote the other side.
pub(crate) fn told(error: &Error) -> String {
    match error {
        Error::RequireHttpsOnly(_) => {
            "it leads to http, where everybody on the way may change it; insecure allows that"
                .to_owned()
        }
        Error::TooManyRedirects => "it leads elsewhere too often".to_owned(),
        Error::Timeout(_) => "it takes too long".to_owned(),
        // The resolver's own words.
        Error::Other(why) => Message(&why.to_string()).to_string(),
        error => Message(&error.to_string()).to_string(),
    }
}
