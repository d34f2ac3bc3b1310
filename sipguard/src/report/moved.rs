//! Who is dropped and perhaps should not be, as `status` tells it. The agent keeps it, and the kernel is asked whether it is still so.

use std::path::Path;

use serde::Serialize;
use sipguard_lists::said::Said;

use crate::{
    agent::{
        FOLDER,
        alarm::{Alarm, alarms},
    },
    lifecycle::{self, Live},
    tables::Now,
};

/// One provider that seems to have moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MovedReport {
    /// Who knocks, the one to look at first.
    #[serde(flatten)]
    pub alarm: Alarm,
    /// One sentence, without a full stop.
    pub about: String,
    /// The command that lets the first one in.
    pub mend: String,
}

impl MovedReport {
    /// All that are still dropped.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub(super) fn all(live: &Live, now: Now) -> Result<Vec<Self>, lifecycle::Error> {
        let mut all = Vec::new();
        for mut alarm in alarms(Path::new(FOLDER)) {
            let service = [alarm.service.clone()];
            let mut dropped = Vec::new();
            for mut knocker in alarm.addresses {
                let address = knocker.address.into();
                let effects = lifecycle::effects(live, &[address], &service, now)?;
                let mut unsettled = effects.iter().filter(|it| !knocker.is_settled_by(it));
                if let Some(effect) = unsettled.next() {
                    knocker.denied = effect.by.is_some();
                    dropped.push(knocker);
                }
            }
            alarm.addresses = dropped;
            if let Some(moved) = alarm.first() {
                for knocker in &mut alarm.addresses {
                    let method = knocker.method.take();
                    knocker.method = method.map(|method| Said(&method).to_string());
                }
                all.push(Self {
                    about: moved.sentence(),
                    mend: moved.mend(),
                    alarm,
                });
            }
        }
        Ok(all)
    }
}
