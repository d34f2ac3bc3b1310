#!/usr/bin/perl
# Answers whoever gets through to a guarded port, and writes down from where: /run/heard has each source once a protocol, since the last SIGHUP.
use strict;
use warnings;
use Socket qw(:all);

open my $heard, '>>', '/run/heard' or die "/run/heard: $!";
$heard->autoflush;
my %known;
$SIG{HUP} = sub {
    truncate $heard, 0;
    %known = ();
};

sub hear {
    my ($protocol, $peer) = @_;
    my (undef, $address) = sockaddr_in6($peer);
    my $from = inet_ntop(AF_INET6, $address) =~ s/^::ffff://r;
    print $heard "$protocol $from\n" unless $known{"$protocol $from"}++;
}

# One socket takes both families.
sub bound {
    my ($type, $port) = @_;
    socket(my $socket, AF_INET6, $type, 0) or die "socket: $!";
    setsockopt($socket, IPPROTO_IPV6, IPV6_V6ONLY, 0) or die "IPV6_V6ONLY: $!";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) or die "SO_REUSEADDR: $!";
    bind($socket, pack_sockaddr_in6($port, IN6ADDR_ANY)) or die "port $port: $!";
    return $socket;
}

my $udp = bound(SOCK_DGRAM, 5060);
my @tcp = map { bound(SOCK_STREAM, $_) } 5060, 80;
listen($_, 64) or die "listen: $!" for @tcp;

while (1) {
    my $ready = '';
    vec($ready, fileno($_), 1) = 1 for $udp, @tcp;
    # A signal leaves nothing to look at.
    select($ready, undef, undef, undef) > 0 or next;
    if (vec($ready, fileno($udp), 1)) {
        my $peer = recv($udp, my $text, 2048, 0);
        if (defined $peer) {
            hear('udp', $peer);
            send($udp, "SIP/2.0 200 OK\r\n\r\n", 0, $peer);
        }
    }
    for my $listening (grep { vec($ready, fileno($_), 1) } @tcp) {
        my $peer = accept(my $connection, $listening) or next;
        hear('tcp', $peer);
        syswrite($connection, "SIP/2.0 200 OK\r\n\r\n");
        close $connection;
    }
}
