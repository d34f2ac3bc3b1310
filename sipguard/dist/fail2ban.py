"""fail2ban's way to ban with sipguard: `action = sipguard.py` in a jail.

A ban is for all services of the sipguard config, whatever the jail says of ports and protocols, and for calls that are going on, too. What the
config or `sipguard allow` lets in keeps going through: see `sipguard list`.

fail2ban runs this in its own process, and hands over one address at a time. What comes while sipguard runs, its next run takes at once: of a
thousand addresses the disk is waited for a few times and not a thousand times, and no jail waits for another.
"""

import itertools
import queue
import subprocess
import threading
import time

from fail2ban.server.action import ActionBase

# So many addresses fit into a command line, whatever they are.
MOST = 1000
# In seconds: whoever puts a long list in force is waited for.
PATIENCE = 60
# Of sipguard's exit codes, 4 is done, too: the disk could not be written, and the ban is in force.
DONE = (0, 4)
# In seconds: longer bans are for good.
LONGEST = 300_000_000


class SipguardAction(ActionBase):
    """One for each jail. Its options, as in `action = sipguard.py[by=NAME]`:

    sipguard: the command.
    by: who is said to have banned, in `sipguard list`. Two actions with one name take back each other's bans.
    """

    # Other actions of the jail have one that grows, and fail2ban compares them.
    banEpoch = 0

    def __init__(self, jail, name, **options):
        super().__init__(jail, name)
        self.reload(**options)
        self._orders = queue.Queue()
        threading.Thread(target=self._work, name="f2b/sipguard." + jail.name, daemon=True).start()

    # An action without these two is gone once fail2ban has read its config again.
    def clearAllParams(self):
        pass

    def reload(self, sipguard="sipguard", by=None, **_others):
        self._sipguard = sipguard
        self._by = by or "fail2ban-" + self._jail.name

    # There is nothing to make ready. What an earlier run has left ends by itself, or is taken over where fail2ban restores it.
    def start(self):
        pass

    def ban(self, aInfo):
        # What fail2ban hands over is another one's soon.
        self._orders.put((("ban", "--for", str(lasts(aInfo))), str(aInfo["ip"])))

    # With bantime.increment.
    _prolongable = True
    prolong = ban

    def unban(self, aInfo):
        self._orders.put((("unban",), str(aInfo["ip"])))

    def flush(self):
        """All of a jail's at once, where fail2ban stops. It takes back each by itself where this fails."""
        self._orders.join()
        return self._run("unban", "--all") is None

    def stop(self):
        self._orders.put(None)
        self._orders.join()

    def _work(self):
        """Carries out what is ordered, in that order, until the jail ends."""
        orders = []
        while None not in orders:
            orders = [self._orders.get()]
            while len(orders) < MOST and not self._orders.empty():
                orders.append(self._orders.get())
            for words, alike in itertools.groupby(filter(None, orders), key=lambda order: order[0]):
                addresses = [address for _, address in alike]
                if len(addresses) > 1 and self._run(*words, "--", *addresses) is None:
                    continue
                # One that is refused must not keep the others from it.
                for address in addresses:
                    error = self._run(*words, "--", address)
                    if error is not None:
                        self._logSys.error("[%s] %s %s: %s", self._jail.name, " ".join(words), address, error)
            for _ in orders:
                self._orders.task_done()

    def _run(self, verb, *words):
        """Returns what went wrong, if anything did."""
        command = [self._sipguard, "--quiet", verb, "--by", self._by, *words]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
        except (OSError, ValueError, subprocess.SubprocessError) as failed:
            return str(failed)
        return None if done.returncode in DONE else done.stderr.decode(errors="replace").strip()


def lasts(aInfo):
    """How many seconds sipguard is to keep a ban by itself, for when fail2ban can't end it.

    It is what is left of the ban, and the ban's whole time again, because fail2ban moves the end of a ban without a word when it sees the address
    again. A ban that it restores has begun a while ago.
    """
    bantime = aInfo["bantime"]
    if bantime < 0:
        return -1
    seconds = 2 * bantime
    if aInfo["restored"]:
        seconds -= int(time.time() - aInfo["time"])
        # Longer by up to a sixteenth: of a thousand that are restored many have one end then, and go at once.
        step = max(bantime // 16, 1)
        seconds = -(-seconds // step) * step
    return max(seconds, 1) if seconds < LONGEST else -1


Action = SipguardAction
