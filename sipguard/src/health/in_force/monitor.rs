//! Whether anything is dropped by what filters.

use crate::{
    health::{Evidence, Finding, Kind, evidence::quoted},
    lifecycle::Live,
    policy::{Mode, Service},
    report::InterfaceState,
};

pub(super) fn check(evidence: &Evidence, live: &Live) -> Vec<Finding> {
    let services = &live.generation.description.services;
    let services = services.iter().map(|found| &found.service);
    let only_watched = |service: &&Service| service.mode == Mode::Monitor;
    let watched: Vec<_> = services.clone().filter(only_watched).collect();
    let file = quoted(&evidence.config);
    let enforce = format!(
        "sed -i -E 's/^( *mode *= *)[\"\\x27]monitor[\"\\x27]/\\1\"enforce\"/' {file} && {}",
        evidence.apply()
    );
    let nothing = |why: &str, mend| {
        let about = format!("nothing is dropped: {why}");
        Kind::NothingDropped.open(about, mend)
    };
    let absent = |state| state == InterfaceState::Absent;
    if services.len() == 0 {
        vec![nothing("no service is configured", evidence.edit())]
    } else if watched.len() == services.len() {
        vec![nothing("monitor mode", enforce)]
    } else if evidence.interfaces.iter().all(|it| absent(it.state)) {
        vec![nothing("no interface is filtered", evidence.edit())]
    } else {
        let of_service = |service: &Service| {
            let name = &service.name;
            let about =
                format!("{name} is only watched (mode = \"monitor\"): nothing is dropped there");
            Kind::OnlyWatched.wrong(about, enforce.clone()).of(name)
        };
        watched.into_iter().map(of_service).collect()
    }
}
