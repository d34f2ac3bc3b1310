//! Lists that are fetched from real web servers, as sipguard reads what was found.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use sipguard_lists::{
    found::Entry,
    task::{Kind, Task, Tasks, Url},
};
use sipguard_tests::{
    certificates::certify,
    dnsmasq::dnsmasq,
    fetcher::{Fetcher, SERVER, SOURCE, gateway_and_server, list, memory},
    netns::{Finished, Host, Process, Sandbox, sandbox, sipguard_fetch, until},
    nginx::nginx,
};
use tempfile::TempDir;

/// Writes a list that has a line more all the time.
const SLOW: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nwhile echo 203.0.113.7; do sleep 0.1; done\n";

/// A gateway with the fetcher, and a host with a web server.
struct World {
    gateway: Host,
    server: Host,
    /// The server's files, in `www`, and what it needs itself.
    files: TempDir,
    fetcher: Fetcher,
    list: Url,
}

impl World {
    fn new(sandbox: &Sandbox) -> Self {
        let (gateway, server) = gateway_and_server(sandbox);
        let files = TempDir::new().expect("a temporary folder");
        fs::create_dir(files.path().join("www")).expect("an empty folder");
        certify(files.path(), SERVER);
        let list = list("list", files.path());
        Self {
            gateway,
            server,
            files,
            fetcher: Fetcher::new(),
            list,
        }
    }

    /// Puts a list on the server. Its time is another one than before, as with files that are not changed within a second.
    fn put(&self, text: &str) {
        let file = self.files.path().join("www/list.txt");
        let before = fs::metadata(&file).and_then(|metadata| metadata.modified());
        fs::write(&file, text).expect("a folder of ours");
        if let Ok(before) = before {
            let file = File::open(&file).expect("it was written");
            let later = before + Duration::from_secs(10);
            file.set_modified(later).expect("it is ours");
        }
    }

    fn tasks(&self) -> Tasks {
        let task = Task {
            source: SOURCE.to_owned(),
            kind: Kind::Url(self.list.clone()),
        };
        Tasks {
            sources: vec![task],
            ..Tasks::none()
        }
    }

    fn fetch(&self) -> Finished {
        self.fetcher.run(&self.gateway, &self.tasks())
    }

    /// What sipguard takes of it.
    fn taken(&self) -> Vec<Entry> {
        self.fetcher.taken(&self.tasks().sources[0])
    }

    fn prefixes(&self) -> Vec<String> {
        self.taken()
            .iter()
            .map(|entry| entry.prefix.to_string())
            .collect()
    }

    /// Wants it to fail so, and to leave what was there.
    fn fails(&self, wanted: &str) {
        let before = self.prefixes();
        let finished = self.fetch().exited(1);
        assert!(
            finished.stdout.trim_end().ends_with(wanted),
            "{}\n{wanted}",
            finished.stdout
        );
        assert_eq!(self.prefixes(), before);
    }

    /// A web server: TLS on 443, plain on 80, compression for whoever takes it.
    fn nginx(&self) -> Process {
        let folder = self.files.path();
        // So many redirects lead from each to the list.
        let hops: String = (2..=6)
            .map(|hops| format!("location = /{hops} {{ return 302 /{}; }}\n  ", hops - 1))
            .chain(["location = /1 { return 302 /list.txt; }\n  ".to_owned()])
            .collect();
        let server = format!(
            "listen 80; root {}/www;\n  gzip on; gzip_types text/plain; gzip_min_length 1; default_type text/plain;\n  \
             location = /moved {{ return 302 /list.txt; }}\n  \
             location = /plain {{ return 302 http://{SERVER}/list.txt; }}\n  location = /round {{ return 302 /round; }}\n  {hops}\
             location = /gone {{ return 410; }}\n  location = /down {{ return 503; }}\n  \
             location = /page {{ return 200 '<!DOCTYPE html>\\n<title>Sign in</title>\\n'; }}",
            folder.display()
        );
        nginx(&self.server, folder, &server)
    }

    /// Another web server, in the plain: it compresses for whoever takes that, has a page for what it has not, and a program that writes one.
    fn apache(&mut self) -> Process {
        self.list.insecure = true;
        self.list.url = format!("http://{SERVER}/list.txt");
        let folder = self.files.path();
        // It reads them as a user who may do nothing.
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, readable.clone()).expect("a folder of ours");
        fs::create_dir(folder.join("cgi")).expect("a folder of ours");
        let program = folder.join("cgi/slow");
        fs::write(&program, SLOW).expect("a folder of ours");
        fs::set_permissions(&program, readable).expect("a file of ours");
        fs::write(
            folder.join("www/page.html"),
            "<!DOCTYPE html>\n<title>Nothing here</title>\n",
        )
        .expect("a folder of ours");
        let folder = folder.display();
        let modules = [
            "mpm_prefork",
            "authz_core",
            "alias",
            "cgi",
            "deflate",
            "dir",
            "filter",
            "mime",
        ];
        let modules = modules.map(|name| {
            format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
        });
        let config = format!(
            "{}ServerRoot {folder}\nServerName {SERVER}\nPidFile pid\nListen {SERVER}:80\nUser nobody\nGroup nogroup\nErrorLog error.log\n\
             LogFormat \"\\\"%r\\\" %>s %B\" short\nCustomLog access.log short\nTypesConfig /dev/null\nDocumentRoot {folder}/www\n\
             SetOutputFilter DEFLATE\nRedirect permanent /moved /list.txt\nScriptAlias /cgi/ {folder}/cgi/\n<Directory {folder}/www>\n \
             FallbackResource /page.html\n</Directory>\n",
            modules.concat()
        );
        let file = self.files.path().join("apache.conf");
        fs::write(&file, config).expect("a folder of ours");
        let server = self.server.spawn(
            Command::new("apache2")
                .arg("-DFOREGROUND")
                .arg("-f")
                .arg(file),
        );
        self.server.wait_until_bound("tcp", 80);
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("access.log")).expect("the server writes it")
    }

    /// The same, once there is something behind this: a server has answered before it writes that.
    fn log_behind(&self, before: &str) -> String {
        let mut log = String::new();
        until("the server has written what it did", || {
            log = self.log();
            let behind = log.split_once(before).map(|(_, behind)| behind);
            behind.is_some_and(|behind| behind.lines().count() > 1 && log.ends_with('\n'))
        });
        log
    }

    fn at(&mut self, path: &str) {
        self.list.url = format!("https://{SERVER}{path}");
    }
}

#[test]
fn hosts_are_found_where_names_are_and_in_the_hosts_file() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let _web = world.nginx();
        let names = dnsmasq(
            &world.server,
            SERVER,
            &[&format!("host-record=feeds.example,{SERVER}")],
        );
        world.put("203.0.113.0/24\n");
        let fetch = |world: &World, url: &str| {
            let mut tasks = world.tasks();
            tasks.dns.servers = vec![SERVER.parse().expect("an address")];
            if let Kind::Url(list) = &mut tasks.sources[0].kind {
                url.clone_into(&mut list.url);
            }
            world.fetcher.run(&world.gateway, &tasks)
        };
        fetch(&world, "https://feeds.example/list.txt").succeeded();
        // The name stays the one that the certificate has to be for.
        let other = fetch(&world, "https://other.example/list.txt").exited(1);
        assert!(other.stdout.contains("host not found"), "{other:?}");

        names.stop();
        let unknown = fetch(&world, "https://feeds.example/list.txt").exited(1);
        let why = format!("feeds.example: {SERVER}: ");
        assert!(unknown.stdout.contains(&why), "{unknown:?}");

        let hosts = world.files.path().join("hosts");
        let written = format!("127.0.0.1 localhost\n{SERVER} lists.internal lists # here\n");
        fs::write(&hosts, written).expect("a folder of ours");
        mount_bind(&hosts, Path::new("/etc/hosts"));
        fetch(&world, "https://lists.internal/list.txt").succeeded();
        "https://lists.internal/list.txt".clone_into(&mut world.list.url);
        assert_eq!(world.prefixes(), ["203.0.113.0/24"]);
    });
}

/// In the sandbox's own view of the file system.
fn mount_bind(file: &Path, over: &Path) {
    let mut mount = Command::new("mount");
    let mounted = mount.arg("--bind").arg(file).arg(over).status();
    assert!(mounted.expect("it is declared").success());
}

#[test]
fn a_list_is_fetched_and_sent_again_only_when_it_changed() {
    sandbox(|sandbox| {
        let world = World::new(sandbox);
        let _server = world.nginx();
        world.put(
            "# a feed\n203.0.113.0/24\n198.51.100.7 ; scanner\n\n2001:db8::/32\n198.51.100.7\n",
        );
        world.fetch().succeeded();
        assert_eq!(
            world.prefixes(),
            ["198.51.100.7/32", "203.0.113.0/24", "2001:db8::/32"]
        );
        let first = world.fetcher.head();
        assert!(
            first.etag.is_some() && first.last_modified.is_some(),
            "{first:?}"
        );
        assert_eq!(first.changed, Some(first.asked));

        until("a second has passed, and nothing is sent again", || {
            world.fetch().succeeded();
            world.fetcher.head().asked > first.asked
        });
        let log = world.log_behind("\" 200 ");
        assert_eq!(log.matches("\" 200 ").count(), 1, "{log}");
        assert!(log.matches("\" 304 ").count() >= 1, "{log}");
        let second = world.fetcher.head();
        assert_eq!(second.changed, first.changed);
        assert_eq!(
            (&second.etag, &second.last_modified),
            (&first.etag, &first.last_modified)
        );
        let taken = world.taken();
        assert!(
            taken
                .iter()
                .all(|entry| entry.first == first.asked && entry.last == second.asked)
        );

        world.put("203.0.113.0/24\n198.51.100.8\n");
        world.fetch().succeeded();
        let third = world.fetcher.head();
        assert_eq!(third.changed, Some(third.asked));
        let seen: Vec<_> = world
            .taken()
            .iter()
            .map(|entry| (entry.prefix.to_string(), entry.first))
            .collect();
        assert_eq!(
            seen,
            [
                ("198.51.100.8/32".to_owned(), third.asked),
                ("203.0.113.0/24".to_owned(), first.asked)
            ]
        );
        assert!(!world.log().contains("gzip"));

        // What was known of another list says nothing of this one.
        let mut world = world;
        world.at("/moved");
        world.fetch().succeeded();
        assert_eq!(world.prefixes().len(), 2);
        let log = world.log_behind("\" 302 ");
        let last = log.lines().last();
        assert!(last.is_some_and(|line| line.contains("\" 200 ")), "{log}");
    });
}

#[test]
fn another_server_sends_nothing_again_either() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let _server = world.apache();
        world.put(&"203.0.113.0/24\n".repeat(1_000));
        world.fetch().succeeded();
        world.fetch().succeeded();
        let log = world.log_behind(" 200 15000");
        assert_eq!(log.matches(" 304 0").count(), 1, "{log}");
        // As it is: what is compressed gets a tag that does not match again.
        assert_eq!(log.matches(" 200 15000").count(), 1, "{log}");
        world.put("198.51.100.0/24\n");
        world.list.url = format!("http://{SERVER}/moved");
        world.fetch().succeeded();
        assert_eq!(world.prefixes(), ["198.51.100.0/24"]);

        world.list.url = format!("http://{SERVER}/nothing.txt");
        world.fails(
            "line 1 is no prefix: \\u{3c}\\u{21}DOCTYPE html\\u{3e} (and 1 more of 2 entries are wrong)",
        );
    });
}

#[test]
fn what_takes_too_long_is_given_up() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let _server = world.apache();
        world.put("203.0.113.0/24\n");
        world.fetch().succeeded();
        world.list.url = format!("http://{SERVER}/cgi/slow");
        world.fetcher.order(&world.tasks());
        let begin = Instant::now();
        let fetcher = world.gateway.spawn(&mut Command::new(sipguard_fetch()));
        // Whoever waits for it has a minute, too.
        until("half of the time is over", || {
            begin.elapsed() > Duration::from_secs(30)
        });
        let told = fetcher.wait().exited(1).stdout;
        assert_eq!(told, "live: 0 entries; it takes too long\n");
        let took = begin.elapsed().as_secs();
        assert!((60..90).contains(&took), "{took} s");
    });
}

#[test]
fn what_is_no_list_changes_nothing() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let _server = world.nginx();
        world.put("203.0.113.0/24\n");
        world.fetch().succeeded();
        let good = world.fetcher.head();

        world.put("203.0.113.0/24\n203.0.113.300\n10.0.0.0/33\n");
        world.fails("line 2 is no prefix: 203.0.113.300 (and 1 more of 3 entries are wrong)");
        world.put("203.0.113.0/24\n128.0.0.0/2\n");
        world.fails("line 2 has 128.0.0.0/2, which is wider than this source may be");
        world.put(&format!("203.0.113.0/24\n{}\n", "1".repeat(5_000)));
        world.fails("line 2 has more than 4096 bytes");
        // Conditional requests go on from the last good copy.
        assert_eq!(
            (world.fetcher.head().etag, world.fetcher.head().changed),
            (good.etag, good.changed)
        );

        let mut lines = String::new();
        for host in 0..100 {
            writeln!(lines, "203.0.113.{host}").expect("memory");
        }
        world.list.tolerate = 10;
        world.put(&format!("nonsense \u{1b}[31m\n{lines}"));
        world.fetch().succeeded();
        assert_eq!(world.prefixes().len(), 100);
        let said = world.fetcher.head().said.expect("something was left out");
        assert_eq!(
            said,
            "1 of 101 entries are left out: line 1 is no prefix: nonsense \\u{1b}\\u{5b}31m"
        );
        world.put(&format!("nonsense\nnonsense\n{lines}"));
        world.fails("line 1 is no prefix: nonsense (and 1 more of 102 entries are wrong)");
    });
}

#[test]
fn servers_that_do_otherwise_are_told_of() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let server = world.nginx();
        world.put("203.0.113.0/24\n");
        for (path, wanted) in [
            ("/gone", "the server answers 410"),
            ("/down", "the server answers 503"),
            (
                "/page",
                "line 1 is no prefix: \\u{3c}\\u{21}DOCTYPE html\\u{3e} (and 1 more of 2 entries are wrong)",
            ),
            ("/round", "it leads elsewhere too often"),
            ("/6", "it leads elsewhere too often"),
            (
                "/plain",
                "it leads to http, where everybody on the way may change it; insecure allows that",
            ),
        ] {
            world.at(path);
            world.fails(wanted);
        }
        world.list.insecure = true;
        world.fetch().succeeded();
        world.list.insecure = false;
        world.at("/5");
        world.fetch().succeeded();
        world.list.url = format!("http://{SERVER}/list.txt");
        world.fails(
            "it leads to http, where everybody on the way may change it; insecure allows that",
        );

        world.at("/list.txt");
        world.fetch().succeeded();
        let ca = world
            .list
            .ca_file
            .replace(world.files.path().join("another.pem"));
        let finished = world.fetch().exited(1);
        assert!(finished.stdout.contains("1 entry; "), "{finished:?}");
        assert!(finished.stdout.contains("certificate"), "{finished:?}");
        world.list.ca_file = Some(world.files.path().join("nowhere.pem"));
        world.fails("nowhere.pem: No such file or directory (os error 2)");
        world.list.ca_file = ca;
        server.stop();
        let finished = world.fetch().exited(1);
        assert!(
            finished.stdout.contains("Connection refused"),
            "{finished:?}"
        );
        assert_eq!(world.prefixes(), ["203.0.113.0/24"]);
    });
}

/// Answers one request on this host with a head, and then with a piece of text, if any, again and again, as long as somebody reads.
fn endless(host: &Host, head: &'static str, piece: &'static str) -> u16 {
    let listener = host.enter(|| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(head.as_bytes());
        let piece = piece.repeat(10_000);
        while !piece.is_empty() && stream.write_all(piece.as_bytes()).is_ok() {}
    });
    port
}

#[test]
fn lists_that_never_end_end() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        // This host alone may be asked without TLS.
        for (head, piece, wanted) in [
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                "# nothing\n",
                "it has more than 64 MiB",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                "203.0.113.7\n",
                "it has more than 1000000 entries",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                "203.0.113.7",
                "line 1 has more than 4096 bytes",
            ),
            (
                "HTTP/1.1 200 OK\r\n",
                "X-More: more\r\n",
                "protocol: http parse resulted in too many headers",
            ),
        ] {
            let port = endless(&world.gateway, head, piece);
            world.list.url = format!("http://127.0.0.1:{port}/");
            world.fails(wanted);
        }
        // Half a list is none.
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n203.0.113.7\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n203.0.113.7\n\r\n",
        ] {
            let port = endless(&world.gateway, head, "");
            world.list.url = format!("http://127.0.0.1:{port}/");
            world.fails("Peer disconnected");
        }
        let port = endless(
            &world.gateway,
            "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.53/list.txt\r\nContent-Length: 0\r\n\r\n",
            "",
        );
        world.list.url = format!("http://127.0.0.1:{port}/");
        world.fails("the server answers 302");
    });
}

#[test]
fn a_million_entries_take_little_memory() {
    sandbox(|sandbox| {
        let world = World::new(sandbox);
        let _server = world.nginx();
        let mut lines = String::new();
        // In no order.
        for number in 0..1_000_000_u64 {
            let number = 0x0100_0000 + number * 7_919 % 1_000_000 * 37;
            let number = u32::try_from(number).expect("far below the end");
            writeln!(lines, "{}", Ipv4Addr::from(number)).expect("memory");
        }
        world.put(&lines);
        world.fetcher.order(&world.tasks());
        let service = world.fetcher.service(&world.gateway);
        service.wait_for_error("live: 1000000 entries");
        let peak = memory(&service, "VmHWM");
        assert!(peak <= 60 << 10, "{peak} kB");
        assert_eq!(world.taken().len(), 1_000_000);
        let idle = memory(&service, "VmRSS");
        println!("{peak} kB at most, {idle} kB behind it");
        service.stop();
    });
}
