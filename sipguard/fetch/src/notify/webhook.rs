//! A web server that takes notices: JSON, posted. A `text` is what chats like Slack and Mattermost show of it.

use std::time::Duration;

use sipguard_lists::notify::{Address, Webhook};
use ureq::http::header;

use super::{Way, message::Message};
use crate::{
    credential,
    http::{self, Resolver},
};

/// How long it may all take.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct OverHttp {
    pub(super) hook: Webhook,
    pub(super) resolver: Resolver,
}

impl Way for OverHttp {
    fn send(&self, message: &Message<'_>) -> Result<(), String> {
        let url = match &self.hook.address {
            Address::Url(url) => url.clone(),
            Address::UrlFile(file) => credential::read(file)?,
        };
        let may_be_plain = self.hook.may_be_plain(&url);
        let config = http::config(self.hook.ca_file.as_deref(), may_be_plain)?
            .https_only(!may_be_plain)
            .timeout_global(Some(PATIENCE))
            // A redirect leads what is posted elsewhere, or loses it.
            .max_redirects(0)
            .max_redirects_will_error(false);
        let sent = http::agent(config, &self.resolver)
            .post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .send(message.json().to_string());
        let status = sent.map_err(|error| http::told(&error))?.status();
        if status.is_success() {
            Ok(())
        } else if status.is_redirection() {
            Err(format!(
                "the server answers {}: it leads elsewhere; write the URL that it leads to",
                status.as_u16()
            ))
        } else {
            Err(format!("the server answers {}", status.as_u16()))
        }
    }
}
