//! The names of things in Redis: the one place that prints and reads them.
//!
//! `<prefix>:{<book>}:book` is a book, `<prefix>:{<book>}:a:<t|k>:<owner>:<resource>:<period>:<start>:<end>` an account
//! in it, `<prefix>:news` the channel. The braces make a cluster keep a book and its accounts on one node, so that a
//! script, which touches one book, never spans nodes.

use crate::domain::AccountKey;
use crate::till::protocol::{BOOKS, News, book};

/// A book of nobody: what the start-up check writes to.
pub(super) const SCRATCH: u16 = BOOKS;

/// Names under one prefix.
pub(super) struct Keys {
    prefix: String,
    channel: String,
    /// Of all books, [`SCRATCH`] included.
    books: Vec<String>,
}

// === impl Keys ===

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Keys {
            prefix: prefix.to_owned(),
            channel: format!("{prefix}:news"),
            books: (0..=SCRATCH).map(|book| format!("{prefix}:{{{book}}}:book")).collect(),
        }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    pub(super) fn book(&self, book: u16) -> &str {
        &self.books[usize::from(book)]
    }

    pub(super) fn account_in(&self, book: u16, account: &AccountKey) -> String {
        format!("{}:{{{book}}}:a:{account}", self.prefix)
    }

    /// The account of a key; `None` for any other text.
    pub(super) fn read_account(&self, key: &str) -> Option<AccountKey> {
        let (tag, rest) = key.strip_prefix(&self.prefix)?.strip_prefix(":{")?.split_once("}:a:")?;
        let account: AccountKey = rest.parse().ok()?;
        (tag.parse() == Ok(book(&account))).then_some(account)
    }

    /// What a message on the channel says; `None` for what another version may say.
    pub(super) fn read_news(&self, message: &str) -> Option<News> {
        News::parse(message, |text| self.read_account(text))
    }
}

/// In which of a cluster's 16,384 slots a book is.
pub(super) fn slot(book: u16) -> u16 {
    let tag = book.to_string();
    tag.bytes().fold(0, crc16) % 16_384
}

/// CRC-16/XMODEM, which clusters of Redis hash tags with.
fn crc16(before: u16, byte: u8) -> u16 {
    let shift = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
    (0..8).fold(before ^ u16::from(byte) << 8, shift)
}

#[cfg(test)]
mod tests {
    use super::{Keys, slot};
    use crate::clock::Timestamp;
    use crate::domain::{AccountKey, ApiKeyId, Owner, Period, TenantId, Window};
    use crate::till::TillId;
    use crate::till::protocol::{News, book};
    use uuid::Uuid;

    fn text_of(keys: &Keys, account: &AccountKey) -> String {
        keys.account_in(book(account), account)
    }

    fn account(owner: Owner) -> AccountKey {
        let start = Timestamp::parse("2026-11-01T00:00:00Z").expect("an instant");
        let end = Timestamp::parse("2026-12-01T00:00:00Z").expect("an instant");
        let window = Window { period: Period::Month, start, end };
        AccountKey { owner, resource: "api_calls".parse().expect("a name"), window }
    }

    #[test]
    fn an_accounts_key_tells_the_account() {
        let keys = Keys::new("fleet:a");
        let id = Uuid::from_u128(0x0102);
        for owner in [Owner::Tenant(TenantId(id)), Owner::Key(ApiKeyId(id))] {
            let text = text_of(&keys, &account(owner));
            assert_eq!(keys.read_account(&text), Some(account(owner)), "{text}");
        }
        assert_eq!(
            text_of(&keys, &account(Owner::Tenant(TenantId(id)))),
            "fleet:a:{2}:a:t:00000000-0000-0000-0000-000000000102:api_calls:month:1793491200000000:1796083200000000"
        );
    }

    #[test]
    fn what_is_no_key_of_ours_is_no_account() {
        let keys = Keys::new("tg");
        let good = text_of(&keys, &account(Owner::Tenant(TenantId(Uuid::from_u128(2)))));
        let bad = [
            "",
            "tg:{2}:book",
            &good.replace("tg:", "other:"),
            &good.replace("{2}", "{3}"),
            &good.replace(":t:", ":x:"),
            &good.replace(":month:", ":moon:"),
            &format!("{good}:1"),
            &good[..good.len() - 17],
        ];
        for text in bad {
            assert_eq!(keys.read_account(text), None, "{text}");
        }
    }

    #[test]
    fn news_are_read_and_unknown_words_are_not_news() {
        let keys = Keys::new("tg");
        let account = account(Owner::Key(ApiKeyId(Uuid::from_u128(2))));
        let text = text_of(&keys, &account);
        let by = TillId(Uuid::from_u128(3));
        assert_eq!(keys.read_news(&format!("recall {text} {by}")), Some(News::Recall { account, by }));
        assert_eq!(keys.read_news(&format!("freed {text}")), Some(News::Freed(account)));
        assert_eq!(keys.read_news("reborn"), Some(News::Reborn));
        for unknown in ["", "recall", "recall x", "freed", "moved 1 2"] {
            assert_eq!(keys.read_news(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn books_have_the_slots_that_a_cluster_gives_them() {
        // What CLUSTER KEYSLOT answers for tg:{0}:book, tg:{9}:book and tg:{63}:book.
        assert_eq!([slot(0), slot(9), slot(63)], [13907, 10106, 10499]);
    }
}
