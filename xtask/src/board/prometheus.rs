//! Prometheus on a host, which collects from there, and what it answers.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::netns::{Host, Process, SCRATCH};

const ADDRESS: &str = "127.0.0.1:9090";
/// Where it collects from, as node_exporter would have it.
pub(super) const EXPORTER: u16 = 9_100;
/// Between two answers, seconds.
pub(super) const STEP: u64 = 5;

pub(super) struct Prometheus<'h> {
    host: &'h Host,
    _process: Process,
}

/// One line of a panel: what it is of, and its values at moments, seconds since 1970.
#[derive(Deserialize)]
pub(super) struct Series {
    pub(super) metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Series {
    pub(super) fn values(&self) -> impl Iterator<Item = (f64, f64)> {
        let values = self.values.iter();
        values.filter_map(|(time, value)| Some((*time, value.parse().ok()?)))
    }
}

impl<'h> Prometheus<'h> {
    pub(super) fn start(host: &'h Host) -> Result<Self> {
        let folder = Path::new(SCRATCH).join("prometheus");
        fs::create_dir(&folder)?;
        let config = folder.join("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 5s, scrape_timeout: 4s}}\nscrape_configs:\n- job_name: node\n  static_configs:\n  \
                 - targets: ['127.0.0.1:{EXPORTER}']\n    labels: {{instance: gw1}}\n"
            ),
        )?;
        let process = host.spawn(
            Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    folder.join("data").display()
                ))
                .arg(format!("--web.listen-address={ADDRESS}")),
        );
        host.wait_until_bound("tcp", 9_090);
        Ok(Self {
            host,
            _process: process,
        })
    }

    /// What it says to a panel's expression, from one moment to another.
    pub(super) fn ask(&self, expression: &str, begin: u64, end: u64) -> Result<Vec<Series>> {
        // What Grafana puts in.
        let expression = expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*");
        let mut promtool = Command::new("promtool");
        promtool
            .args(["query", "range", "--format=json"])
            .arg(format!("--start={begin}"))
            .arg(format!("--end={end}"))
            .arg(format!("--step={STEP}s"))
            .arg(format!("http://{ADDRESS}"))
            .arg(&expression);
        let said = self.host.run(&mut promtool);
        ensure!(said.status.success(), "{expression}: {}", said.stderr);
        serde_json::from_str(&said.stdout).with_context(|| expression)
    }
}
