//! Amounts, currencies and prices.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// A currency of ISO 4217 whose minor unit is 1, 1/100 or 1/1000 of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Currency([u8; 3]);

/// A whole number of minor units of a currency; negative is owed to the tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Money {
    pub minor: i64,
    pub currency: Currency,
}

/// What happens to half a minor unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the even neighbour: over many lines nobody gains.
    #[default]
    HalfEven,
    /// Away from zero.
    HalfUp,
}

/// What `per` units cost: an exact decimal of whole currency units, for example 0.40 per 1,000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitPrice {
    /// The price without its point.
    digits: u64,
    /// How many of them are behind the point.
    scale: u32,
    per: u64,
}

/// A fraction that is not negative, in lowest terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ratio {
    numerator: u128,
    denominator: u128,
}

/// Text or a number that is no price.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no price: at most 15 digits, 9 of them behind the point, per 1 to 1000000000000 units")]
pub struct BadPrice(pub String);

/// As JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPrice {
    price: String,
    per: u64,
}

/// ISO 4217, those without a minor unit and those with one of a thousandth. All others have hundredths.
const WHOLE: [&str; 15] =
    ["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF"];
const THOUSANDTHS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
/// Of tenths of thousandths, or of no unit at all: nothing is sold in them.
const UNSOLD: [&str; 3] = ["CLF", "UYW", "XXX"];

// === impl Currency ===

impl Currency {
    pub const USD: Currency = Currency(*b"USD");

    /// Three capital letters; `None` for what nothing can be sold in.
    pub fn parse(code: &str) -> Option<Currency> {
        let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
        let good = letters.iter().all(u8::is_ascii_uppercase) && !UNSOLD.contains(&code);
        good.then_some(Currency(letters))
    }

    pub fn as_str(&self) -> &str {
        // Only `parse` fills the bytes, and only with letters.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many decimals its minor unit is.
    pub fn exponent(self) -> u32 {
        match self.as_str() {
            "XPF" => 0,
            code if WHOLE.contains(&code) => 0,
            code if THOUSANDTHS.contains(&code) => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PartialSchema for Currency {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Z]{3}$")).examples(["USD"]).into()
    }
}

impl ToSchema for Currency {}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Currency::parse(&code).ok_or_else(|| {
            serde::de::Error::custom(format!("`{code}` is no currency that anything is sold in, like USD"))
        })
    }
}

// === impl Money ===

impl Money {
    /// A decimal of whole units as people write it, `500` or `499.90`; `None` for one with a sign, or with more decimals
    /// than the currency has.
    pub fn parse(text: &str, currency: Currency) -> Option<Money> {
        let (whole, behind) = text.split_once('.').unwrap_or((text, ""));
        let places = usize::try_from(currency.exponent()).ok()?;
        let is_good = !whole.is_empty() && !text.ends_with('.') && behind.len() <= places;
        let digits = format!("{whole}{behind:0<places$}");
        let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
        let minor = digits.parse().ok().filter(|_| is_good && is_decimal)?;
        Some(Money { minor, currency })
    }
}

/// `299.00 USD`, `-5 JPY`, `1.250 KWD`
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Money { minor, currency } = self;
        let sign = if *minor < 0 { "-" } else { "" };
        let amount = decimal(minor.unsigned_abs(), currency.exponent());
        f.pad(&format!("{sign}{amount} {currency}"))
    }
}

/// `digits` with a point before the last `scale` of them.
fn decimal(digits: u64, scale: u32) -> String {
    let unit = 10_u64.pow(scale);
    let places = usize::try_from(scale).unwrap_or(0);
    match scale {
        0 => digits.to_string(),
        _ => format!("{}.{:0places$}", digits / unit, digits % unit),
    }
}

// === impl Rounding ===

impl Rounding {
    pub const ALL: [Rounding; 2] = [Rounding::HalfEven, Rounding::HalfUp];

    pub const fn as_str(self) -> &'static str {
        match self {
            Rounding::HalfEven => "half_even",
            Rounding::HalfUp => "half_up",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Rounding::ALL.into_iter().find(|rounding| rounding.as_str() == text)
    }

    /// The whole number that is nearest to `numerator / denominator`, whose denominator is above zero.
    pub const fn divide(self, numerator: i128, denominator: i128) -> i128 {
        let (below, rest) = (numerator.div_euclid(denominator), numerator.rem_euclid(denominator));
        let twice = rest * 2;
        let goes_up = if twice == denominator {
            match self {
                Rounding::HalfEven => below % 2 != 0,
                Rounding::HalfUp => numerator > 0,
            }
        } else {
            twice > denominator
        };
        if goes_up { below + 1 } else { below }
    }
}

// === impl Ratio ===

impl Ratio {
    pub(super) const ZERO: Ratio = Ratio { numerator: 0, denominator: 1 };

    /// `denominator` is above zero.
    pub(super) const fn new(numerator: u128, denominator: u128) -> Ratio {
        let common = common_divisor(numerator, denominator);
        Ratio { numerator: numerator / common, denominator: denominator / common }
    }

    pub(super) const fn whole(number: u64) -> Ratio {
        Ratio { numerator: number as u128, denominator: 1 }
    }

    /// `None` for what is above 2^128 even in lowest terms.
    pub(super) fn times(self, other: Ratio) -> Option<Ratio> {
        // What cancels out between the two goes first, so that no product is larger than it must be.
        let (one, two) =
            (Ratio::new(self.numerator, other.denominator), Ratio::new(other.numerator, self.denominator));
        Some(Ratio {
            numerator: one.numerator.checked_mul(two.numerator)?,
            denominator: one.denominator.checked_mul(two.denominator)?,
        })
    }

    /// The whole number that is nearest to it.
    fn rounded(self, rounding: Rounding) -> Option<i128> {
        // Half of what there is, since rounding doubles the rest.
        let denominator = i128::try_from(self.denominator).ok().filter(|large| *large <= i128::MAX / 2)?;
        Some(rounding.divide(i128::try_from(self.numerator).ok()?, denominator))
    }
}

/// Never zero, unless both are.
const fn common_divisor(mut one: u128, mut other: u128) -> u128 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

// === impl UnitPrice ===

impl UnitPrice {
    const DIGITS_MAX: usize = 15;
    const SCALE_MAX: usize = 9;
    const PER_MAX: u64 = 1_000_000_000_000;

    /// # Errors
    /// [`BadPrice`] for what is no decimal, has a sign or too many digits, or is of no units or too many.
    pub fn new(price: &str, per: u64) -> Result<UnitPrice, BadPrice> {
        let bad = || BadPrice(format!("{price} per {per}"));
        let (whole, behind) = price.split_once('.').unwrap_or((price, ""));
        let digits = format!("{whole}{behind}");
        let good = !whole.is_empty()
            && !price.ends_with('.')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.len() <= UnitPrice::DIGITS_MAX
            && behind.len() <= UnitPrice::SCALE_MAX
            && (1..=UnitPrice::PER_MAX).contains(&per);
        let scale = u32::try_from(behind.len()).map_err(|_| bad())?;
        let digits = digits.parse().ok().filter(|_| good).ok_or_else(bad)?;
        Ok(UnitPrice { digits, scale, per })
    }

    /// The price as a decimal, with the zeros that it was written with.
    pub fn price(&self) -> String {
        decimal(self.digits, self.scale)
    }

    /// Whether nothing is charged at it.
    pub const fn is_nothing(&self) -> bool {
        self.digits == 0
    }

    /// The units that it is of.
    pub const fn per(&self) -> u64 {
        self.per
    }

    /// What so many units cost, in minor units, rounded once.
    ///
    /// 2^53 units of a price of 15 digits and a currency of thousandths stay below 2^127.
    pub fn minor(&self, units: u64, currency: Currency, rounding: Rounding) -> i128 {
        let numerator = i128::from(units) * i128::from(self.digits) * 10_i128.pow(currency.exponent());
        rounding.divide(numerator, 10_i128.pow(self.scale) * i128::from(self.per))
    }

    /// The same of a fraction of units; `None` for what can't be counted.
    pub(super) fn minor_of(&self, units: Ratio, currency: Currency, rounding: Rounding) -> Option<i128> {
        let price = Ratio::new(self.digits.into(), 10_u128.pow(self.scale));
        let minor = Ratio::new(10_u128.pow(currency.exponent()), self.per.into());
        units.times(price)?.times(minor)?.rounded(rounding)
    }
}

impl fmt::Display for UnitPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.price(), self.per)
    }
}

impl FromStr for UnitPrice {
    type Err = BadPrice;

    /// `0.40 per 1000`
    fn from_str(text: &str) -> Result<Self, BadPrice> {
        let bad = || BadPrice(text.to_owned());
        let (price, per) = text.split_once(" per ").ok_or_else(bad)?;
        UnitPrice::new(price, per.parse().map_err(|_| bad())?)
    }
}

impl PartialSchema for UnitPrice {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[0-9]+(\.[0-9]+)?$"));
        ObjectBuilder::new()
            .property("price", text.examples(["0.40"]))
            .property("per", ObjectBuilder::new().schema_type(Type::Integer).examples([1_000]))
            .required("price")
            .required("per")
            .into()
    }
}

impl ToSchema for UnitPrice {}

impl Serialize for UnitPrice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WrittenPrice { price: self.price(), per: self.per }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UnitPrice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WrittenPrice { price, per } = WrittenPrice::deserialize(deserializer)?;
        UnitPrice::new(&price, per).map_err(serde::de::Error::custom)
    }
}
