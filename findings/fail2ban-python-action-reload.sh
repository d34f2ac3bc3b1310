#!/usr/bin/env bash
# fail2ban 1.0.2 (Debian 1.0.2-2).
#
# Guess: an action in Python needs what fail2ban's base class names as required (start, stop, ban, unban), and the stock one for mail has. When
# fail2ban reads its config again and nothing in it has changed, the jail keeps its actions, those in Python as those that are commands.
#
# Instead: after `fail2ban-client reload` the action is gone. It is made anew, then taken for one that the config does not have any more, stopped
# and removed. The jail goes on without it: it counts, bans, says so in its log and in its status, and does nothing. Only an action that has
# `clearAllParams` and `reload`, too, stays.
#
# Seen:
#   before: The jail required has the following actions: required
#   before: The jail both has the following actions: both
#   after: No actions for jail required
#   after: The jail both has the following actions: both
#   jail required: banned 192.0.2.1, and its action was called 0 times
#   jail both: banned 192.0.2.1, and its action was called 1 times
#
# Needs python3 and apt, which gets the package from where its own sources say. Bans nobody: the actions write a line.
set -euo pipefail

folder=$(mktemp -d)
cd "$folder"
trap 'kill "$server" 2> /dev/null || true; wait; rm -rf "$folder"' EXIT
apt-get download --quiet=2 fail2ban=1.0.2-2
dpkg -x ./*.deb root
export PYTHONPATH=$PWD/root/usr/lib/python3/dist-packages

mkdir -p config/action.d config/filter.d
cat > config/action.d/required.py <<PYTHON
from fail2ban.server.action import ActionBase


class Action(ActionBase):
    def start(self):
        pass

    def stop(self):
        pass

    def ban(self, info):
        with open("$folder/" + self._jail.name, "a") as calls:
            calls.write("ban\n")

    def unban(self, info):
        pass
PYTHON
{
    cat config/action.d/required.py
    cat <<'PYTHON'

    def clearAllParams(self):
        pass

    def reload(self):
        pass
PYTHON
} > config/action.d/both.py
cat > config/fail2ban.conf <<CONFIG
[Definition]
loglevel = ERROR
logtarget = $folder/log
syslogsocket = auto
socket = $folder/socket
pidfile = $folder/pid
dbfile = None
dbpurgeage = 1d
allowipv6 = no
CONFIG
cat > config/jail.conf <<CONFIG
[DEFAULT]
enabled = true
backend = polling
filter =
logpath = $folder/messages
[required]
action = required.py
[both]
action = both.py
CONFIG
touch messages required both

client() { python3 root/usr/bin/fail2ban-client -c config "$@" 2> /dev/null; }
actions() { for jail in required both; do client get $jail actions | paste -s -d ' '; done; }

python3 root/usr/bin/fail2ban-server -f -c config > server 2>&1 &
server=$!
until client ping > /dev/null && client status both > /dev/null; do sleep 0.2; done
told=$(actions | sed 's/^/before: /')
client reload > /dev/null
told+="
$(actions | sed 's/^/after: /')"
for jail in required both; do
    client set $jail banip 192.0.2.1 > /dev/null
    banned=$(client get $jail banip | tr -d ' \n')
    calls=$(wc -l < $jail)
    told+="
jail $jail: banned $banned, and its action was called $calls times"
done
echo "$told"
[ "$told" = 'before: The jail required has the following actions: required
before: The jail both has the following actions: both
after: No actions for jail required
after: The jail both has the following actions: both
jail required: banned 192.0.2.1, and its action was called 0 times
jail both: banned 192.0.2.1, and its action was called 1 times' ]
