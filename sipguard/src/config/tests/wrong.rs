//! Everything that can be wrong in a config file, and what is said of it.

use super::wrong;

const ROWS: &[(&str, &str)] = &[
    // Syntax; the words are the toml crate's.
    (
        "mode = ",
        "1:8: string values must be quoted, expected literal string",
    ),
    ("a = 1\na = 2", "2:1: duplicate key"),
    (
        "[sources]\na = [203.0.113.0/24]",
        "2:6: an address is written in quotes: \"203.0.113.0/24\"",
    ),
    (
        "[sources]\na = [\n  198.51.100.10,\n  2001:db8::/32,\n]",
        "3:3: an address is written in quotes: \"198.51.100.10\"\n4:3: an address is written in quotes: \"2001:db8::/32\"",
    ),
    ("\n  [sources\n", "2:11: unclosed table, expected `]`"),
    // Keys.
    (
        "\nmod = \"monitor\"",
        "2:1: the config file has no key \"mod\"; did you mean \"mode\"?",
    ),
    (
        "[service.sip]\n",
        "1:2: the config file has no key \"service\"; did you mean \"services\"?",
    ),
    (
        "colour = 1",
        "1:1: the config file has no key \"colour\"; the keys here are interfaces, interface, mode, sources, dns, events, services, notify",
    ),
    (
        "[services.sip]\nudp = [1]\n alow = []",
        "3:2: the service sip has no key \"alow\"; did you mean \"allow\"?",
    ),
    (
        "[services.sip]\nudp = [1]\nicmp = []",
        "3:1: the service sip has no key \"icmp\"; the keys here are udp, tcp, sctp, udplite, allow, deny, default, mode",
    ),
    (
        "[[interface]]\nname = \"a\"\nmods = 1",
        "3:1: [[interface]] has no key \"mods\"; did you mean \"mode\"?",
    ),
    (
        "[sources]\na = { flie = \"x\", file = \"/dev/null/x\" }",
        "2:7: a source has no key \"flie\"; did you mean \"file\"?\n2:26: cannot read /dev/null/x: Not a directory (os error 20); put one prefix a line there",
    ),
    // Types and words.
    (
        "mode = 1",
        "1:8: mode must be a string, not an integer; write \"enforce\" or \"monitor\"",
    ),
    (
        "mode = \"on\"",
        "1:8: mode can't be \"on\"; write \"enforce\" or \"monitor\"",
    ),
    (
        "mode = 1979-05-27",
        "1:8: mode must be a string, not a date or time; write \"enforce\" or \"monitor\"",
    ),
    (
        "sources = true",
        "1:11: sources must be a table, not a boolean; write [sources]",
    ),
    (
        "services = 1.5",
        "1:12: services must be a table, not a float; write [services.sip]",
    ),
    (
        "[services]\nsip = []",
        "2:7: a service must be a table, not an array; write [services.sip]",
    ),
    (
        "[services.a]\nudp = 5060",
        "2:7: udp must be an array, not an integer; write udp = [5060]",
    ),
    (
        "[services.a]\nudp = [\"5060\"]",
        "2:8: a port must be an integer, not a string; write 5060",
    ),
    (
        "[services.a]\nudp = [1]\nallow = \"x\"",
        "3:9: allow must be an array, not a string; write allow = [\"providers\"]",
    ),
    (
        "[services.a]\nudp = [1]\ndeny = [1]",
        "3:9: a source's name must be a string, not an integer; write \"providers\"",
    ),
    (
        "[services.a]\nudp = [1]\ndefault = \"drop\"",
        "3:11: default can't be \"drop\"; write \"deny\" or \"allow\"",
    ),
    (
        "[services.a]\nudp = [1]\nmode = \"off\"",
        "3:8: mode can't be \"off\"; write \"enforce\" or \"monitor\"",
    ),
    // Interfaces.
    (
        "interfaces = \"eth0\"",
        "1:14: interfaces must be an array, not a string; write interfaces = [\"eth0\"]",
    ),
    (
        "interfaces = [1]",
        "1:15: an interface's name must be a string, not an integer; write \"eth0\"",
    ),
    (
        "interfaces = [\"a\", \"a\"]",
        "1:20: the interface a is there twice; leave one out",
    ),
    (
        "interfaces = [\"a\"]\n[[interface]]\nname = \"a\"",
        "3:8: the interface a is there twice; leave one out",
    ),
    (
        "[[interface]]\nmode = \"auto\"",
        "1:1: this [[interface]] has no name; write name = \"eth0\" below it",
    ),
    (
        "[interface]\nname = \"a\"",
        "1:1: interface must be an array, not a table; write [[interface]] and below it name = \"eth0\"",
    ),
    (
        "interface = [\"a\"]",
        "1:14: interface must be a table, not a string; write [[interface]] and below it name = \"eth0\"",
    ),
    (
        "[[interface]]\nname = \"a\"\nmode = \"xdp\"",
        "3:8: mode can't be \"xdp\"; write \"auto\" or \"native\" or \"tc\"",
    ),
    (
        "interfaces = [\"\"]",
        "1:15: \"\" is no interface name: it is empty; `ip link` shows the names",
    ),
    (
        "interfaces = [\"01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567\"]",
        "1:15: \"0123456789012345678901234567890123456789…\" is no interface name: it is longer than 127 bytes; `ip link` shows the names",
    ),
    (
        "interfaces = [\"..\"]",
        "1:15: \"..\" is no interface name: it is a folder's; `ip link` shows the names",
    ),
    (
        "interfaces = [\"a/b\"]",
        "1:15: \"a/b\" is no interface name: it has a / or : in it; `ip link` shows the names",
    ),
    (
        "interfaces = [\"eth0:1\"]",
        "1:15: \"eth0:1\" is no interface name: it has a / or : in it; `ip link` shows the names",
    ),
    (
        "interfaces = [\"eth 0\"]",
        "1:15: \"eth 0\" is no interface name: it has a space or control character in it; `ip link` shows the names",
    ),
    // Sources.
    (
        "[sources]\na = \"203.0.113.0/24\"",
        "2:5: a source must be an array or a table, not a string; write [\"203.0.113.0/24\"] or { file = \"list.txt\" }",
    ),
    (
        "[sources]\n\"a b\" = []",
        "2:1: \"a b\" is no name for a source; write 1 to 63 letters, digits, _ and -",
    ),
    (
        "[sources]\na = [1]",
        "2:6: a prefix must be a string, not an integer; write \"203.0.113.0/24\"",
    ),
    (
        "[sources]\n\"ä\" = []",
        "2:1: \"ä\" is no name for a source; write 1 to 63 letters, digits, _ and -",
    ),
    (
        "sources = { \"äö\" = [], a = [\"203.0.113.5/24\"] }",
        "1:13: \"äö\" is no name for a source; write 1 to 63 letters, digits, _ and -\n1:29: 203.0.113.5/24 has host bits set; write 203.0.113.0/24 (or 203.0.113.5 for the one host)",
    ),
    (
        "[sources]\na = [\n  \"10.0.0.1\",\n  \"::ffff:0:0/96\",\n]",
        "4:3: ::ffff:0.0.0.0/96 is IPv4 in IPv6 form; write 0.0.0.0/0",
    ),
    (
        "[sources]\na = {}",
        "2:5: this source has no file; write { file = \"list.txt\" }",
    ),
    (
        "[sources]\na = { file = 1 }",
        "2:14: file must be a string, not an integer; write \"list.txt\"",
    ),
    (
        "[sources]\na = { file = \"/nowhere/a\" }",
        "2:14: cannot read /nowhere/a: No such file or directory (os error 2); put one prefix a line there",
    ),
    (
        "[sources]\na = { file = \"/dev/null\" }",
        "2:14: cannot read /dev/null: it is not a regular file; put one prefix a line there",
    ),
    // Services.
    (
        "[services.SIP]\nudp = [1]",
        "1:11: \"SIP\" is no name for a service; write 1 to 15 of a-z, 0-9, _ and -, and not all",
    ),
    (
        "[services.sip]\nallow = []",
        "1:11: the service sip guards no ports; write for example udp = [5060] below it",
    ),
    (
        "[services.a]\nudp = [0]",
        "2:8: \"0\" is no port; write a number from 1 to 65535",
    ),
    (
        "[services.a]\nudp = [1, 65536]",
        "2:11: \"65536\" is no port; write a number from 1 to 65535",
    ),
    (
        "[services.a]\nudp = [-1]",
        "2:8: \"-1\" is no port; write a number from 1 to 65535",
    ),
    (
        "[services.a]\nudp = [1, 2, 0x1]",
        "2:14: udp port 1 is there twice; leave one out",
    ),
    (
        "[services.a]\nudp = [1]\n[services.b]\nudp = [2, 1]",
        "4:11: udp port 1 is already guarded by the service a (line 2); leave it out of one",
    ),
    // Sources that live.
    (
        "[sources]\na = [\"203.0.113.300\"]",
        "2:6: \"203.0.113.300\" is neither an address nor a name: the last part of a name is no number",
    ),
    (
        "[sources]\na = [\"10.0.0.0/33\"]",
        "2:6: the prefix length /33 is too long; write a number from 0 to 32",
    ),
    (
        "[sources]\na = [\"sip\"]",
        "2:6: \"sip\" is no whole name; write one with its domain, such as sip.provider.example",
    ),
    (
        "[sources]\na = { names = [\"203.0.113.7\"] }",
        "2:16: this is an address and no name; write both in one array, such as [\"203.0.113.0/24\", \"sip.provider.example\"]",
    ),
    (
        "[sources]\na = { sip = \"provider\", hold = \"1\" }",
        "2:13: \"provider\" is no whole name; write one with its domain, such as sip.provider.example",
    ),
    (
        "[sources]\na = { url = \"http://feeds.example/a\" }",
        "2:13: \"http://feeds.example/a\" can be changed by everybody on the way; write https://, or allow that with insecure = true",
    ),
    (
        "[sources]\na = { url = \"feeds.example/a\" }",
        "2:13: \"feeds.example/a\" is no URL; write for example \"https://feeds.example/voip.txt\"",
    ),
    (
        "[sources]\na = { url = \"https://feeds.example/a\", every = \"5s\" }",
        "2:48: every is between 10s and 31d; write for example \"1h\"",
    ),
    (
        "[sources]\na = { url = \"https://feeds.example/a\", tolerate = \"60%\" }",
        "2:51: \"60%\" is no share; write for example \"1%\" or \"0.5%\", at most \"50%\"",
    ),
    (
        "[sources]\na = { url = \"https://feeds.example/a\", widest = { ipv4 = 0 } }",
        "2:58: a prefix length is a number from 1 to 32 here",
    ),
    (
        "[sources]\na = { countries = [\"UK\"], database = \"/x\" }",
        "2:20: \"UK\" is no country's code of two letters (ISO 3166-1), such as \"DE\"; United Kingdom of Great Britain and Northern Ireland is \"GB\"",
    ),
    (
        "[sources]\na = { countries = [\"DE\"] }",
        "2:5: this source has no database; write database = \"/usr/share/GeoIP/country.mmdb\"",
    ),
    (
        "[sources]\na = { crowdsec = \"http://127.0.0.1:8080\" }",
        "2:5: this source has no key_file; `cscli bouncers add` makes a key for it",
    ),
    (
        "[sources]\na = { crowdsec = \"http://127.0.0.1:8080\", key_file = \"/k\" }\n[services.b]\nudp = [1]\nallow = [\"a\"]",
        "5:10: these are addresses that CrowdSec bans; name them in deny",
    ),
    (
        "[sources]\na = { etcd = [\"http://etcd1.example:2379\"], key = \"/a\" }",
        "2:15: \"http://etcd1.example:2379\" can be changed by everybody on the way; write https://, or allow that with insecure = true",
    ),
    (
        "[sources]\na = { etcd = [\"https://etcd1.example:2379\"], key = \"/a\", user = \"b\" }",
        "2:65: user and password_file go together; write both",
    ),
    (
        "[dns]\nservers = [\"dns.example\"]",
        "2:12: \"dns.example\" is no address of a server; write for example \"192.0.2.53\"",
    ),
    (
        "[dns]\ndnssec = true",
        "1:1: dnssec needs servers that hand on what proves an answer; write servers = [\"192.0.2.53\"]",
    ),
    // Notices.
    (
        "[notify]",
        "1:1: [notify] names nobody; write webhook = \"https://hooks.example/sipguard\", or mail = { to = \"noc@example.com\", from = \"sipguard@gw1.example.com\", smtp = \"smtps://mail.example.com\" }",
    ),
    (
        "[notify]\nwebhook = \"http://hooks.example/T/secret\"",
        "2:11: what is written here can be changed by everybody on the way; write https://, or allow that with webhook = { url = \"…\", insecure = true }",
    ),
    (
        "[notify]\nwebhook = \"hooks.example\"",
        "2:11: what is written here is no URL; write for example \"https://hooks.example/sipguard\"",
    ),
    (
        "[notify]\nwebhook = { url = \"https://hooks.example/\", url_file = \"x\" }",
        "2:11: a webhook has a url or a url_file; write url = \"https://hooks.example/sipguard\"",
    ),
    (
        "[notify]\nmail = { to = \"noc@example.com\", from = \"sipguard\", smtp = \"smtps://mail.example\" }",
        "2:41: \"sipguard\" is no mail address; write for example \"noc@example.com\"",
    ),
    (
        "[notify]\nmail = { to = [], from = \"a@b\", smtp = \"mail.example\" }",
        "2:15: mail goes to 1 to 20 addresses; write for example to = \"noc@example.com\"\n2:40: \"mail.example\" is no mail server; write \"smtps://mail.example.com\" (TLS from the beginning), or \"smtp://…\" (STARTTLS; on this host without)",
    ),
    (
        "[notify]\nmail = { to = \"a@b\", from = \"a@b\", smtp = \"smtp://mail.example\", user = \"gw1\" }",
        "2:73: user and password_file go together; write both",
    ),
    (
        "[notify]\nmail = { to = \"a@b\" }",
        "2:8: mail needs to, from and smtp; write mail = { to = \"noc@example.com\", from = \"sipguard@gw1.example.com\", smtp = \"smtps://mail.example.com\" }",
    ),
    (
        "[events]\nhide = \"number\"",
        "2:8: hide must be an array, not a string; write hide = [\"number\", \"user\"]",
    ),
    (
        "[events]\nhide = [\"number\", \"password\"]",
        "2:19: what is hidden can't be \"password\"; write \"number\" or \"user\"",
    ),
    // Names of sources.
    (
        "[sources]\nproviders = []\n[services.a]\nudp = [1]\nallow = [\"provider\"]",
        "5:10: no source is called \"provider\"; did you mean \"providers\"?",
    ),
    (
        "[services.a]\nudp = [1]\nallow = [\"friends\"]",
        "3:10: no source is called \"friends\"; define it in [sources], or correct the name",
    ),
    (
        "[services.a]\nudp = [1]\ndeny = [\"203.0.113.0/24\"]",
        "3:9: \"203.0.113.0/24\" is an address, not a source's name; give it one in [sources], such as mine = [\"203.0.113.0/24\"], and write \"mine\" here",
    ),
];

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, wanted) in ROWS {
        assert_eq!(wrong(text).join("\n"), *wanted, "{text}");
    }
}
