//! What the tests of sipguard share: frames, the verdict table, a naive model of it, and network
//! namespaces.

pub mod agent;
pub mod byte_code;
pub mod capture_file;
pub mod certificates;
pub mod compiled;
pub mod country_database;
pub mod crowdsec;
pub mod differential;
pub mod dnsmasq;
pub mod etcd;
pub mod fetcher;
pub mod flood;
pub mod forbidden;
pub mod foreign;
pub mod found;
pub mod frame;
pub mod gateway;
pub mod installed;
pub mod interpreter;
pub mod kill;
pub mod netfilter;
pub mod netns;
pub mod nginx;
pub mod nsd;
pub mod package;
pub mod posted;
pub mod printed;
pub mod random;
pub mod reference;
pub mod rule_sets;
pub mod scene;
pub mod tun;
pub mod verdict_table;
pub mod way_in;
