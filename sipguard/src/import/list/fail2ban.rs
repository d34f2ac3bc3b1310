//! What `fail2ban-client` prints of banned addresses: `banned` (a Python list of jails), `status JAIL` (a tree), `get JAIL banip` (words,
//! or with `--with-time` a line each).

use super::Lists;

pub(super) fn read(text: &str, lists: &mut Lists) {
    let tree = text.contains("Banned IP list:");
    for (number, line) in (1..).zip(text.lines()) {
        if tree {
            if let Some((_, banned)) = line.split_once("Banned IP list:") {
                for word in banned.split_whitespace() {
                    lists.add("", number, word);
                }
            }
        } else if line.trim_start().starts_with(['[', '{']) {
            // Between quotes stand jails, with a colon behind, and addresses.
            let mut rest = line;
            while let Some((_, behind)) = rest.split_once(['\'', '"']) {
                let Some((word, behind)) = behind.split_once(['\'', '"']) else {
                    break;
                };
                if !behind.starts_with(':') {
                    lists.add("", number, word);
                }
                rest = behind;
            }
        } else {
            // With its time an address has a line to itself.
            let words = line.split_whitespace();
            let count = if line.contains(" = ") { 1 } else { usize::MAX };
            for word in words.take(count) {
                lists.add("", number, word.trim_matches([',', '"', '\'']));
            }
        }
    }
}
