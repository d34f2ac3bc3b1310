//! nginx on a host of a test.

use std::{fs, path::Path, process::Command};

use crate::netns::{Host, Process};

/// Starts one, with TLS on port 443: its server is what `server` says, in nginx's words. All of its files are in `folder`, where
/// [`certify`](crate::certificates::certify) has made its certificate; what it was asked for is in `access.log` there.
pub fn nginx(host: &Host, folder: &Path, server: &str) -> Process {
    let file = folder.join("nginx.conf");
    let folder = folder.display();
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\nhttp {{\n \
         access_log {folder}/access.log;\n client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;\n \
         fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n server {{\n  \
         listen 443 ssl; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;\n  \
         {server}\n }}\n}}\n"
    );
    fs::write(&file, config).expect("a folder of ours");
    let server = host.spawn(Command::new("nginx").arg("-c").arg(file));
    host.wait_until_bound("tcp", 443);
    server
}
