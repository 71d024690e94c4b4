//! Pages of lists: how much, from where, and what comes next.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sql::{Query, Row};
use super::{Snapshot, StoreError};
use crate::clock::Timestamp;

/// Which part of a list. Made by [`Page::new`], which checks the bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub(super) limit: u32,
    pub(super) offset: u32,
    pub(super) cursor: Option<Cursor>,
}

/// Part of a list.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// For the next page; `None` at the list's end.
    pub next_cursor: Option<String>,
    /// How many items the whole list has; `None` where counting them would cost too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A position in a list: behind the item with this sort value and id. Opaque text to its readers, who may not
/// rely on its form; it holds nothing that they were not shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    pub after: String,
    pub id: String,
}

/// A page that can't be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPage {
    #[error("{0} is outside 1..=1000")]
    Limit(i64),
    #[error("{0} is outside 0..=10000; use the cursor beyond that")]
    Offset(i64),
    #[error("this is no cursor of this list")]
    Cursor,
}

// === impl Page ===

impl Page {
    pub const LIMIT_DEFAULT: u32 = 100;
    pub const LIMIT_MAX: u32 = 1_000;
    pub const OFFSET_MAX: u32 = 10_000;

    /// # Errors
    /// [`BadPage`]: the first bound that is not kept.
    pub fn new(limit: Option<i64>, offset: Option<i64>, cursor: Option<&str>) -> Result<Page, BadPage> {
        let limit = limit.unwrap_or(Page::LIMIT_DEFAULT.into());
        let offset = offset.unwrap_or(0);
        Ok(Page {
            limit: within(limit, 1, Page::LIMIT_MAX).ok_or(BadPage::Limit(limit))?,
            offset: within(offset, 0, Page::OFFSET_MAX).ok_or(BadPage::Offset(offset))?,
            cursor: cursor.map(|text| Cursor::parse(text).ok_or(BadPage::Cursor)).transpose()?,
        })
    }

    pub const fn limit(&self) -> u32 {
        self.limit
    }

    pub const fn offset(&self) -> u32 {
        self.offset
    }

    pub const fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Behind which instant and id a list begins that runs by them; `None` for its first page.
    pub(super) fn behind(&self) -> Result<Option<(Timestamp, Uuid)>, BadPage> {
        let position =
            |cursor: &Cursor| Some((Timestamp::parse(&cursor.after)?, Uuid::try_parse(&cursor.id).ok()?));
        self.cursor().map(|cursor| position(cursor).ok_or(BadPage::Cursor)).transpose()
    }

    /// Where a list of ids begins that runs from the newest, a UUIDv7, to the oldest: below this one.
    pub(super) fn below(&self) -> Result<Uuid, BadPage> {
        let id = self.cursor().map(|cursor| Uuid::try_parse(&cursor.id));
        id.transpose().map(|id| id.unwrap_or(Uuid::max())).map_err(|_| BadPage::Cursor)
    }
}

impl Default for Page {
    fn default() -> Self {
        Page { limit: Page::LIMIT_DEFAULT, offset: 0, cursor: None }
    }
}

fn within(number: i64, min: u32, max: u32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| (min..=max).contains(number))
}

// === impl Snapshot ===

impl Snapshot {
    /// The page of what `query` finds, which begins behind the page's cursor, in the order of `columns`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(super) async fn listed<T>(
        &mut self,
        mut query: Query,
        columns: &str,
        page: &Page,
        read: impl Fn(&Row) -> Result<T, StoreError>,
        cursor: impl FnOnce(&T) -> Cursor,
    ) -> Result<Listed<T>, StoreError> {
        query.push(" ORDER BY ").push(columns);
        // One more than the page holds: it tells whether there is a next page.
        query.push(" LIMIT ").push_bind(i64::from(page.limit) + 1);
        query.push(" OFFSET ").push_bind(i64::from(page.offset));
        let rows = query.fetch_all(self.connection()).await?;
        let items = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Listed::of(items, page, cursor))
    }
}

// === impl Listed ===

impl<T> Listed<T> {
    /// The list's part of `rows`, which were asked for one more than the page holds: the surplus row tells that
    /// there is a next page.
    pub fn of(mut rows: Vec<T>, page: &Page, cursor: impl FnOnce(&T) -> Cursor) -> Listed<T> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| cursor(last).to_string());
        Listed { items: rows, next_cursor, total: None }
    }

    /// The same part of the list, with other items.
    pub fn map<V>(self, view: impl FnMut(T) -> V) -> Listed<V> {
        let Listed { items, next_cursor, total } = self;
        Listed { items: items.into_iter().map(view).collect(), next_cursor, total }
    }
}

// === impl Cursor ===

impl Cursor {
    /// Behind what has that id and was made then.
    pub(super) fn behind(id: impl fmt::Display, made_at: Timestamp) -> Cursor {
        Cursor { after: made_at.to_string(), id: id.to_string() }
    }

    /// Longer text is no cursor of ours.
    const LENGTH_MAX: usize = 2_048;

    fn parse(text: &str) -> Option<Cursor> {
        if text.len() > Cursor::LENGTH_MAX {
            return None;
        }
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(hex_byte).collect();
        serde_json::from_slice(&bytes?).ok()
    }
}

/// Hexadecimal of its JSON: safe in a URL without escapes.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        json.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::{BadPage, Cursor, Listed, Page};

    #[test]
    fn a_page_has_1_to_1000_items_and_begins_at_10000_at_most() {
        assert_eq!(Page::new(None, None, None), Ok(Page::default()));
        assert_eq!(Page::default().limit(), 100);
        for limit in [1, 1_000] {
            assert!(Page::new(Some(limit), Some(10_000), None).is_ok());
        }
        for limit in [i64::MIN, -1, 0, 1_001, i64::MAX] {
            assert_eq!(Page::new(Some(limit), None, None), Err(BadPage::Limit(limit)));
        }
        for offset in [-1, 10_001] {
            assert_eq!(Page::new(None, Some(offset), None), Err(BadPage::Offset(offset)));
        }
    }

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor { after: "Zürich \"1\"".to_owned(), id: "x".to_owned() };
        let page = Page::new(None, None, Some(&cursor.to_string())).unwrap();
        assert_eq!(page.cursor(), Some(&cursor));
    }

    #[test]
    fn a_next_page_is_promised_only_when_there_is_one() {
        let page = Page::new(Some(2), None, None).unwrap();
        let listed = |rows: Vec<u8>| {
            Listed::of(rows, &page, |last| Cursor { after: last.to_string(), id: String::new() })
        };
        assert_eq!(listed(vec![1, 2]).next_cursor, None);
        let longer = listed(vec![1, 2, 3]);
        assert_eq!(longer.items, [1, 2]);
        assert_eq!(longer.next_cursor, Some(Cursor { after: "2".to_owned(), id: String::new() }.to_string()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_cursor_panic(text in "\\PC{0,40}|[0-9a-f]{0,40}") {
            proptest::prop_assert!(Page::new(None, None, Some(&text)).is_err());
        }
    }
}
