//! The fewest prefixes that say of every address what it is, where the most specific prefix decides: denies inside allows, and the other
//! way round.
//!
//! The method is that of Draves, King, Venkatachary and Zill, "Constructing optimal IP routing tables" (1999): from the longest prefixes
//! upwards, what would be cheapest for each; from the shortest downwards, what is still missing. Long ways down to a single change are
//! gone in one step.

/// What an address is, as one of up to 64 classes; class 0 is what an address without a prefix is.
pub(super) type Class = u8;

/// Addresses from one to another that are of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) class: Class,
}

/// A prefix of `length` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    pub(super) first: u128,
    pub(super) length: u8,
    pub(super) class: Class,
}

/// The fewest prefixes for segments that cover all addresses of `bits` bits, in rising order and without gaps.
pub(super) fn fewest(segments: &[Segment], bits: u8) -> Vec<Said> {
    let mut tree = Tree { nodes: Vec::new() };
    let whole = Prefix {
        first: 0,
        length: 0,
        bits,
    };
    let root = tree.build(whole, segments);
    let mut said = Vec::new();
    tree.say(root, whole, 0, &mut said);
    said
}

#[derive(Clone, Copy)]
struct Prefix {
    first: u128,
    length: u8,
    bits: u8,
}

impl Prefix {
    fn last(self) -> u128 {
        let host = self.bits - self.length;
        match 1_u128.checked_shl(host.into()) {
            Some(size) => self.first + (size - 1),
            None => u128::MAX,
        }
    }

    fn halves(self) -> [Self; 2] {
        let length = self.length + 1;
        // Only called of prefixes with more than one address.
        let half = 1_u128 << (self.bits - length);
        [self.first, self.first + half].map(|first| Self {
            first,
            length,
            ..self
        })
    }

    /// The longest prefix with both addresses in it.
    fn around(one: u128, other: u128, bits: u8) -> Self {
        let differing = 128 - (one ^ other).leading_zeros();
        // At most 128.
        let host = u8::try_from(differing).unwrap_or(u8::MAX);
        Self {
            first: one
                .checked_shr(host.into())
                .map_or(0, |high| high.checked_shl(host.into()).unwrap_or_default()),
            length: bits - host,
            bits,
        }
    }
}

#[derive(Clone, Copy)]
enum Node {
    /// One class all over.
    Leaf(Class),
    /// Its place among the branches.
    Inner(usize),
}

struct Branch {
    /// Classes that cost least, a bit each.
    cheapest: u64,
    below: Below,
}

enum Below {
    Halves([Node; 2]),
    /// One class all over, save in this longer prefix.
    Within(Class, Node, u128, u8),
}

struct Tree {
    nodes: Vec<Branch>,
}

impl Tree {
    fn build(&mut self, prefix: Prefix, segments: &[Segment]) -> Node {
        let (Some(begin), Some(end)) = (segments.first(), segments.last()) else {
            return Node::Leaf(0);
        };
        if segments.len() == 1 {
            return Node::Leaf(begin.class);
        }
        let below = if begin.class == end.class {
            // Between the first change and the last one.
            let inner = Prefix::around(begin.last + 1, end.first - 1, prefix.bits);
            if inner.length >= prefix.length + 2 {
                let node = self.build(inner, cut(segments, inner));
                Below::Within(begin.class, node, inner.first, inner.length)
            } else {
                self.halves(prefix, segments)
            }
        } else {
            self.halves(prefix, segments)
        };
        let cheapest = match &below {
            Below::Halves([one, other]) => {
                let (one, other) = (self.cheapest(*one), self.cheapest(*other));
                if one & other == 0 {
                    one | other
                } else {
                    one & other
                }
            }
            // Two halves at least are of this class all over.
            Below::Within(class, ..) => 1 << class,
        };
        self.nodes.push(Branch { cheapest, below });
        Node::Inner(self.nodes.len() - 1)
    }

    fn halves(&mut self, prefix: Prefix, segments: &[Segment]) -> Below {
        Below::Halves(
            prefix
                .halves()
                .map(|half| self.build(half, cut(segments, half))),
        )
    }

    fn cheapest(&self, node: Node) -> u64 {
        match node {
            Node::Leaf(class) => 1 << class,
            Node::Inner(place) => self.nodes[place].cheapest,
        }
    }

    /// Says what differs from what a shorter prefix said already.
    fn say(&self, node: Node, prefix: Prefix, known: Class, said: &mut Vec<Said>) {
        let cheapest = self.cheapest(node);
        let mut class = known;
        if cheapest >> known & 1 == 0 {
            // Never more than 63: some bit is set.
            class = Class::try_from(cheapest.trailing_zeros()).unwrap_or(Class::MAX);
            said.push(Said {
                first: prefix.first,
                length: prefix.length,
                class,
            });
        }
        let Node::Inner(place) = node else {
            return;
        };
        match self.nodes[place].below {
            Below::Halves(halves) => {
                for (half, prefix) in halves.into_iter().zip(prefix.halves()) {
                    self.say(half, prefix, class, said);
                }
            }
            Below::Within(_, node, first, length) => {
                let inner = Prefix {
                    first,
                    length,
                    ..prefix
                };
                self.say(node, inner, class, said);
            }
        }
    }
}

/// The segments that reach into a prefix. The first and the last one may reach out of it.
fn cut(segments: &[Segment], prefix: Prefix) -> &[Segment] {
    let from = segments.partition_point(|segment| segment.last < prefix.first);
    let to = segments.partition_point(|segment| segment.first <= prefix.last());
    &segments[from..to]
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    const BITS: u8 = 5;

    fn segments(classes: &[Class]) -> Vec<Segment> {
        let mut all: Vec<Segment> = Vec::new();
        for (number, &class) in (0..).zip(classes) {
            match all.last_mut() {
                Some(last) if last.class == class => last.last = number,
                _ => all.push(Segment {
                    first: number,
                    last: number,
                    class,
                }),
            }
        }
        all
    }

    fn decided(said: &[Said], number: u128, bits: u8) -> Class {
        let inside = |said: &&Said| {
            let host = bits - said.length;
            (number ^ said.first).checked_shr(host.into()).unwrap_or(0) == 0
        };
        said.iter()
            .filter(inside)
            .max_by_key(|said| said.length)
            .map_or(0, |said| said.class)
    }

    /// The fewest prefixes where a shorter one says `known`, by trying everything.
    fn naive(classes: &[Class], known: Class) -> usize {
        let below = |class| match classes {
            [only] => usize::from(*only != class) * 1000,
            more => {
                let (one, other) = more.split_at(more.len() / 2);
                naive(one, class) + naive(other, class)
            }
        };
        (0..4)
            .map(|class| usize::from(class != known) + below(class))
            .min()
            .unwrap()
    }

    proptest! {
        #![proptest_config(Config::with_cases(300))]

        #[test]
        fn they_say_the_same_and_are_the_fewest(
            runs in vec((0_u8..4, 1_usize..9), 1..20)
        ) {
            let mut classes: Vec<Class> = runs
                .iter()
                .flat_map(|&(class, times)| std::iter::repeat_n(class, times))
                .collect();
            classes.resize(1 << BITS, 0);
            let said = fewest(&segments(&classes), BITS);
            for (number, &class) in (0..).zip(&classes) {
                prop_assert_eq!(decided(&said, number, BITS), class);
            }
            prop_assert_eq!(said.len(), naive(&classes, 0));
        }

        #[test]
        fn all_128_bits(hosts in vec((any::<u128>(), 0_u8..128, 1_u8..4), 0..12)) {
            let mut edges = vec![0];
            for &(first, length, _) in &hosts {
                let mask = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                edges.push(first & !mask);
                edges.extend((first | mask).checked_add(1));
            }
            edges.sort_unstable();
            edges.dedup();
            let class = |number: u128| {
                let inside = |&&(first, length, _): &&(u128, u8, u8)| {
                    number ^ first <= u128::MAX.checked_shr(length.into()).unwrap_or(0)
                };
                hosts.iter().find(inside).map_or(0, |&(.., class)| class)
            };
            let mut all: Vec<Segment> = Vec::new();
            for (place, &first) in edges.iter().enumerate() {
                let last = edges.get(place + 1).map_or(u128::MAX, |next| next - 1);
                match all.last_mut() {
                    Some(before) if before.class == class(first) => before.last = last,
                    _ => all.push(Segment { first, last, class: class(first) }),
                }
            }
            let said = fewest(&all, 128);
            for segment in all {
                for number in [segment.first, segment.last] {
                    prop_assert_eq!(decided(&said, number, 128), segment.class);
                }
            }
        }
    }

    #[test]
    fn a_host_in_the_middle_of_nothing_is_one_prefix() {
        let host = 0x2001_0db8_u128 << 96 | 7;
        let all = [(0, host - 1, 0), (host, host, 1), (host + 1, u128::MAX, 0)]
            .map(|(first, last, class)| Segment { first, last, class });
        let wanted = Said {
            first: host,
            length: 128,
            class: 1,
        };
        assert_eq!(fewest(&all, 128), [wanted]);
    }
}
