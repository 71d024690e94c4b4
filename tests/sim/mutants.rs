//! Versions that are broken on purpose: the simulation must find each of them.

use super::scripts::Sources;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// Grants ignore what other tills hold.
    OthersIgnored,
    /// More is wanted than what is held, instead of so much in all.
    RelativeWant,
    /// A new life grants at once.
    NoLearning,
    /// A till that has used up what it held is forgotten.
    SettledForgotten,
    /// The last message counts, and not the largest counters.
    LastMessageCounts,
    /// An account that is missing is one that nothing was used of.
    MissingIsZero,
    /// Only the first account of a request is looked at.
    OnlyTheFirst,
    /// Units are told to be given back while they can still be spent.
    ToldBeforeTaken,
}

impl Mutant {
    pub(crate) const ALL: [Mutant; 8] = [
        Mutant::OthersIgnored,
        Mutant::RelativeWant,
        Mutant::NoLearning,
        Mutant::SettledForgotten,
        Mutant::LastMessageCounts,
        Mutant::MissingIsZero,
        Mutant::OnlyTheFirst,
        Mutant::ToldBeforeTaken,
    ];

    /// The scripts, broken where the mutant is one of theirs.
    pub(crate) fn sources(self) -> Sources {
        let mut sources = Sources::default();
        match self {
            Mutant::OthersIgnored => replace(
                &mut sources.renew,
                "local left = remaining(account)\n",
                "local left = account.limit and math.max(0, account.limit - committed_by(claim)) or math.huge\n",
            ),
            Mutant::RelativeWant => {
                let (target, least) = ("tonumber(ARGV[15]) - claim[1]", "tonumber(ARGV[16]) - claim[1]");
                replace(&mut sources.renew, target, "tonumber(ARGV[15]) - tonumber(ARGV[9])");
                replace(&mut sources.renew, least, "tonumber(ARGV[16]) - tonumber(ARGV[9])");
                let answer = "    book.life,\n    claim[1],\n";
                let more = "    book.life,\n    tonumber(ARGV[9]) + granted_now,\n";
                replace(&mut sources.renew, answer, more);
                replace(
                    &mut sources.renew,
                    "local is_short = false\n",
                    "local is_short = false\nlocal granted_now = 0\n",
                );
                replace(
                    &mut sources.renew,
                    "        left = left - units\n",
                    "        left = left - units\n        granted_now = units\n",
                );
            }
            Mutant::NoLearning => {
                replace(&mut sources.book, "book.learns = at + learn_for\n", "book.learns = at\n");
            }
            Mutant::SettledForgotten => replace(
                &mut sources.renew,
                "save(KEYS[2], account, till, table.concat(claim, ' '))",
                "if committed_by(claim) == used_by(claim) then \
                 redis.call('HSET', KEYS[2], 'limit', account.limit and text(account.limit) or '') \
                 else save(KEYS[2], account, till, table.concat(claim, ' ')) end",
            ),
            Mutant::LastMessageCounts => {
                replace(&mut sources.renew, "if told > claim[at] then", "if told ~= claim[at] then");
            }
            Mutant::MissingIsZero => replace(
                &mut sources.renew,
                "begin(limit, version, tonumber(ARGV[4]) > book.since + CLOCKS_DIFFER)",
                "begin(limit, version, true)",
            ),
            Mutant::OnlyTheFirst | Mutant::ToldBeforeTaken => {}
        }
        sources
    }
}

/// # Panics
/// If `from` is not there exactly once: then the script has changed, and so must the mutant.
fn replace(text: &mut String, from: &str, to: &str) {
    assert_eq!(text.matches(from).count(), 1, "{from:?} must be in the script once");
    *text = text.replace(from, to);
}
