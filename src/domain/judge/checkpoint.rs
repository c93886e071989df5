//! A state as text, and back, to the bit.
//!
//! Role: what survives the operator: the design readable, the rest packed. Inputs and outputs: text. Anything unexpected
//! is no state, never a wrong one. Must never import: other rooms.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::design::Design;
use super::state::{Cell, SignalState, State};
use crate::domain::process::{Counts, Harm, Safety};

/// The form of the text.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    v: u32,
    design: Design,
    state: String,
}

impl State {
    /// The state as JSON, at most [`super::MAX_CHECKPOINT_BYTES`] long.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn text(&self) -> Text {
        let mut out = Packer(Vec::new());
        out.time(Some(self.began));
        out.time(Some(self.last));
        out.float(self.most);
        out.time(self.certified);
        out.time(self.incident.map(|incident| incident.0));
        out.time(self.incident.map(|incident| incident.1));
        out.number(u64::from(self.settled));
        for signal in &self.signals {
            out.signal(signal);
        }
        Text { v: VERSION, design: self.design.clone(), state: STANDARD_NO_PAD.encode(&out.0) }
    }

    /// Reads a state back; `None` for text of another version or of no state at all.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn of(text: Text) -> Option<Self> {
        if text.v != VERSION {
            return None;
        }
        let bytes = STANDARD_NO_PAD.decode(&text.state).ok()?;
        let mut from = Reader(&bytes);
        let (began, last) = (from.time()??, from.time()??);
        let most = from.float()?;
        let certified = from.time()?;
        let incident = from.time()?.zip(from.time()?);
        let settled = from.number()? != 0;
        let signals: Option<Vec<SignalState>> =
            text.design.signals.iter().map(|design| from.signal(design.tests())).collect();
        let state = Self { design: text.design, began, last, signals: signals?, most, certified, incident, settled };
        from.0.is_empty().then_some(state)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Text::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("a state of another version"))
    }
}

/// Little-endian numbers, one after the other; small ones in few bytes.
struct Packer(Vec<u8>);

impl Packer {
    fn float(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Seven bits a byte, the lowest first (LEB128).
    fn number(&mut self, mut value: u64) {
        loop {
            let low = value.to_le_bytes().first().copied().unwrap_or(0) & 0x7f;
            value >>= 7;
            self.0.push(if value == 0 { low } else { low | 0x80 });
            if value == 0 {
                break;
            }
        }
    }

    /// Nanoseconds since the epoch.
    fn time(&mut self, time: Option<Timestamp>) {
        let nanos = time.and_then(|time| u64::try_from(time.as_nanosecond()).ok());
        self.option(nanos.map(|nanos| nanos.saturating_add(1)));
    }

    fn option(&mut self, value: Option<u64>) {
        self.number(value.map_or(0, |value| value.saturating_add(1)));
    }

    fn counts(&mut self, counts: Counts) {
        self.number(counts.bad);
        self.number(counts.total);
    }

    fn signal(&mut self, signal: &SignalState) {
        self.time(Some(signal.until));
        self.option(signal.values.map(|_| 1));
        if let Some((new, old)) = signal.values {
            self.float(new);
            self.float(old);
        }
        self.time(signal.first.map(|first| first.0));
        self.float(signal.first.map_or(0.0, |first| first.1));
        self.number(u64::from(signal.steps));
        self.number(u64::from(signal.shared_steps));
        self.option(signal.incident_at.map(u64::from));
        self.time(signal.limit.map(|limit| limit.0));
        self.counts(signal.limit.map_or_else(Counts::default, |limit| limit.1));
        self.option(signal.limit_broken.map(|counts| counts.total));
        self.counts(signal.limit_broken.unwrap_or_default());
        self.time(signal.starved_since);
        for cell in &signal.cells {
            self.cell(cell);
        }
    }

    fn cell(&mut self, cell: &Cell) {
        for harm in [&cell.young, &cell.grown, &cell.history, &cell.incident] {
            self.number(u64::from(harm.steps));
            if harm.steps > 0 {
                harm.ln_wealth.iter().for_each(|value| self.float(*value));
                self.float(harm.left);
            }
        }
        for (safety, steps) in [(&cell.safety, cell.grown.steps), (&cell.safety_history, cell.history.steps)] {
            if steps > 0 {
                safety.ln_wealth.iter().for_each(|value| self.float(*value));
            }
        }
        self.counts(cell.new);
        self.counts(cell.old);
        self.counts(cell.paired);
    }
}

struct Reader<'a>(&'a [u8]);

#[expect(clippy::option_option, reason = "the outer one says whether the text could be read")]
impl Reader<'_> {
    fn float(&mut self) -> Option<f64> {
        let (value, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*value))
    }

    fn number(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0_u64, 0_u32);
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }

    fn small(&mut self) -> Option<u32> {
        self.number().and_then(|value| u32::try_from(value).ok())
    }

    fn option(&mut self) -> Option<Option<u64>> {
        self.number().map(|value| value.checked_sub(1))
    }

    fn time(&mut self) -> Option<Option<Timestamp>> {
        let Some(nanos) = self.option()? else { return Some(None) };
        Timestamp::from_nanosecond(i128::from(nanos.checked_sub(1)?)).ok().map(Some)
    }

    fn counts(&mut self) -> Option<Counts> {
        Some(Counts { bad: self.number()?, total: self.number()? })
    }

    fn signal(&mut self, tests: usize) -> Option<SignalState> {
        let until = self.time()??;
        let values = match self.option()? {
            Some(_) => Some((self.float()?, self.float()?)),
            None => None,
        };
        let first = (self.time()?, self.float()?);
        let (steps, shared_steps) = (self.small()?, self.small()?);
        let incident_at = match self.option()? {
            Some(at) => Some(u32::try_from(at).ok()?),
            None => None,
        };
        let limit = (self.time()?, self.counts()?);
        let (broken, broken_counts) = (self.option()?, self.counts()?);
        let starved_since = self.time()?;
        let cells: Option<Vec<Cell>> = (0..tests).map(|_| self.cell()).collect();
        Some(SignalState {
            until,
            cells: cells?,
            values,
            first: first.0.map(|at| (at, first.1)),
            steps,
            shared_steps,
            incident_at,
            limit: limit.0.map(|at| (at, limit.1)),
            limit_broken: broken.map(|_| broken_counts),
            starved_since,
        })
    }

    fn cell(&mut self) -> Option<Cell> {
        let mut cell = Cell::default();
        for harm in [&mut cell.young, &mut cell.grown, &mut cell.history, &mut cell.incident] {
            *harm = self.harm()?;
        }
        if cell.grown.steps > 0 {
            cell.safety = self.safety()?;
        }
        if cell.history.steps > 0 {
            cell.safety_history = self.safety()?;
        }
        (cell.new, cell.old, cell.paired) = (self.counts()?, self.counts()?, self.counts()?);
        Some(cell)
    }

    fn harm(&mut self) -> Option<Harm> {
        let mut harm = Harm { steps: self.small()?, ..Harm::default() };
        if harm.steps > 0 {
            for value in &mut harm.ln_wealth {
                *value = self.float()?;
            }
            harm.left = self.float()?;
        }
        Some(harm)
    }

    fn safety(&mut self) -> Option<Safety> {
        let mut safety = Safety::default();
        for value in &mut safety.ln_wealth {
            *value = self.float()?;
        }
        Some(safety)
    }
}
