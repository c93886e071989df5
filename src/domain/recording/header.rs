//! The first line: what is measured, how it is judged, what was seen before.
//!
//! Role: text to settings. A signal's kind may only show later, when its first reading does. Inputs: the first line.
//! Outputs: `Header`. Must never import: other rooms.

use super::analysis::{Asked, choice, percent, scorer};
use super::json::{Fields, Json, Path, Wrong, parse, shown};
use super::line::{Line, Which};
use super::rollout::{Rollout, pairs_by_name};
use super::{Fault, Form, MAX_SIGNALS, SCHEMA};
use crate::domain::evidence::number::to_count;
use crate::domain::judge::{Baseline, Kind, OnNoData, PPM, Settings, SignalSettings};
use crate::domain::policy::{OnInconclusive, Scorer};
use crate::domain::signal::Term;

const FIELDS: [&str; 10] =
    ["schema", "baseline", "analysis", "scorer", "signals", "history", "phi", "rollout", "start", "growth"];

/// The first line of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    pub(super) names: Vec<String>,
    pub(super) signals: Vec<Asking>,
    pub(super) asked: Asked,
    pub(super) phi: Vec<Option<[u32; 2]>>,
    pub(super) rollout: Option<Rollout>,
    pub(super) history: Vec<Line>,
    pub(super) start: Vec<Line>,
    pub(super) growth: Vec<Vec<f64>>,
}

/// What a signal's entry says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Asking {
    weight: Option<u32>,
    critical: Option<bool>,
    dry_run: bool,
    on_no_data: OnNoData,
    max_ppm: Option<u32>,
    limit: Option<u32>,
}

impl Header {
    /// Reads the first line.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn read(text: &str) -> Result<Self, Fault> {
        if text.trim().is_empty() {
            return Err(Fault::of_line(
                1,
                format!("is empty; the first line is the header, with \"schema\":\"{SCHEMA}\""),
            ));
        }
        parse(text).and_then(|json| Self::of(&json)).map_err(|wrong| Fault::new(1, wrong))
    }

    fn of(json: &Json<'_>) -> Result<Self, Wrong> {
        let root = Path::ROOT;
        let named = json.object(&root)?.iter().find(|(name, _)| name == "schema").map(|(_, schema)| schema);
        let at = root.field("schema");
        match named {
            Some(schema) if schema.text(&at)? != SCHEMA => {
                return at.wrong(format!("is {}, but this program reads {SCHEMA:?}", schema.shown()));
            }
            Some(_) => {}
            None => return at.wrong(format!("is missing; the first line is the header, with \"schema\":\"{SCHEMA}\"")),
        }
        let fields = json.fields(&root, &FIELDS)?;
        let mut asked = match fields.get("analysis") {
            Some(analysis) => Asked::read(analysis, &root.field("analysis"))?,
            None => Asked::default(),
        };
        if let Some(word) = fields.get("baseline") {
            let known = [
                ("concurrent", Baseline::Concurrent),
                ("history", Baseline::History),
                ("auto", Baseline::Auto),
                ("none", Baseline::None),
            ];
            asked.baseline = choice(word, &root.field("baseline"), &known)?;
        }
        if let Some(word) = fields.get("scorer") {
            asked.scorer = scorer(word, &root.field("scorer"))?;
        }
        let (names, signals) = read_signals(&fields, &root)?;
        let phi = match fields.get("phi") {
            Some(phi) => pairs_by_name(phi, &root.field("phi"), &names, 1.0)?,
            None => vec![None; names.len()],
        };
        let rollout =
            fields.get("rollout").map(|json| Rollout::read(json, &root.field("rollout"), &names)).transpose()?;
        let history = read_lines(&fields, &root, "history", &names)?;
        let start = read_lines(&fields, &root, "start", &names)?;
        let growth = read_growth(&fields, &root, &names)?;
        Ok(Self { names, signals, asked, phi, rollout, history, start, growth })
    }

    /// Who judges.
    #[must_use]
    pub const fn scorer(&self) -> Scorer {
        self.asked.scorer
    }

    /// What an unproven end means.
    #[must_use]
    pub const fn on_inconclusive(&self) -> OnInconclusive {
        self.asked.on_inconclusive
    }

    /// The settings, with the forms in which the signals are given as far as they are known.
    pub(super) fn settings(&self, forms: &[Option<Form>], tells_young: bool) -> Settings {
        let signals = self.names.iter().zip(&self.signals).zip(forms);
        Settings {
            alpha_ppm: self.asked.alpha_ppm,
            window: self.asked.window,
            baseline: self.asked.baseline,
            min_requests: self.asked.min_requests,
            history_may_enforce: self.asked.history_may_enforce,
            tells_young,
            first_wave: None,
            controls: 0,
            signals: signals
                .zip(&self.growth)
                .map(|(((name, asking), form), growth)| asking.settings(name, *form, !growth.is_empty()))
                .collect(),
        }
    }
}

/// What a signal measures, by its name and form.
pub(super) fn kind(name: &str, form: Option<Form>, has_start: bool) -> Kind {
    match (Term::of(name), form) {
        (_, Some(Form::Boundaries)) => Kind::Tail,
        (Some(Term::Latency), Some(Form::Counts) | None) => Kind::Slow,
        (Some(Term::Memory), Some(Form::Values) | None) if has_start => Kind::Leak,
        (Some(Term::Memory), Some(Form::Values) | None) => Kind::Growth,
        (_, Some(Form::Values)) => Kind::Level,
        _ => Kind::Ratio,
    }
}

impl Asking {
    fn settings(&self, name: &str, form: Option<Form>, has_start: bool) -> SignalSettings {
        let (term, kind) = (Term::of(name), kind(name, form, has_start));
        let gauge = matches!(kind, Kind::Level | Kind::Growth | Kind::Leak);
        // Errors and latency share the weight, however latency is given.
        let weight = if gauge && term != Some(Term::Latency) { 1 } else { 2 };
        SignalSettings {
            name: name.to_owned(),
            term,
            kind,
            weight: self.weight.unwrap_or(weight),
            critical: self.critical.unwrap_or(!gauge),
            max_ppm: if gauge { None } else { self.max_ppm },
            limit: if gauge { self.limit } else { None },
            on_no_data: self.on_no_data,
            dry_run: self.dry_run,
            // Of a recorded rollout that is fixed with the rest.
            proxied: false,
        }
    }

    fn read(json: &Json<'_>, path: &Path<'_>) -> Result<(String, Self), Wrong> {
        if let Json::Text(name) = json {
            return Ok((name.to_string(), Self::default()));
        }
        let fields = json.fields(path, &["name", "weight", "critical", "max", "dryRun", "onNoData"])?;
        let Some(name) = fields.get("name") else {
            return path.field("name").wrong("is missing; write for example \"errors\"");
        };
        let mut asking = Self::default();
        if let Some(weight) = fields.get("weight") {
            let path = path.field("weight");
            let count = weight.count(&path)?;
            match u32::try_from(count).ok().filter(|weight| *weight <= 100) {
                Some(weight) => asking.weight = Some(weight),
                None => return path.wrong(format!("is {count}, but must lie between 0 and 100")),
            }
        }
        if let Some(critical) = fields.get("critical") {
            asking.critical = Some(critical.bool(&path.field("critical"))?);
        }
        if let Some(dry_run) = fields.get("dryRun") {
            asking.dry_run = dry_run.bool(&path.field("dryRun"))?;
        }
        if let Some(word) = fields.get("onNoData") {
            let known = [("Inconclusive", OnNoData::Inconclusive), ("Pass", OnNoData::Pass), ("Fail", OnNoData::Fail)];
            asking.on_no_data = choice(word, &path.field("onNoData"), &known)?;
        }
        if let Some(max) = fields.get("max") {
            asking.read_max(max, &path.field("max"))?;
        }
        Ok((name.text(&path.field("name"))?.to_owned(), asking))
    }

    /// A share of bad events as a percentage or a number up to 1; for a value, the value.
    fn read_max(&mut self, json: &Json<'_>, path: &Path<'_>) -> Result<(), Wrong> {
        if let Json::Text(_) = json {
            self.max_ppm = Some(percent(json, path)?);
            return Ok(());
        }
        let max = json.number(path)?;
        if max <= 0.0 {
            return path.wrong(format!("is {max}, but must be a share such as \"50%\", or a positive value"));
        }
        let whole = |value: f64| to_count(value.round()).and_then(|value| u32::try_from(value).ok());
        self.max_ppm = whole(max * f64::from(PPM)).filter(|ppm| *ppm <= PPM);
        self.limit = whole(max);
        Ok(())
    }
}

fn read_signals(fields: &Fields<'_>, root: &Path<'_>) -> Result<(Vec<String>, Vec<Asking>), Wrong> {
    let path = root.field("signals");
    let Some(listed) = fields.get("signals") else {
        return path.wrong("is missing; list what the lines hold, for example [\"errors\",\"latency\"]");
    };
    let listed = listed.list(&path)?;
    if listed.is_empty() {
        return path.wrong("is empty; list what the lines hold, for example [\"errors\",\"latency\"]");
    }
    if listed.len() > MAX_SIGNALS {
        return path.wrong(format!("lists {} signals, but can list {MAX_SIGNALS}; leave some out", listed.len()));
    }
    let (mut names, mut signals) = (Vec::new(), Vec::new());
    for (index, entry) in listed.iter().enumerate() {
        let path = path.index(index);
        let (name, asking) = Asking::read(entry, &path)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if name.is_empty() || name.len() > 127 || !name.chars().all(plain) {
            return path.wrong(format!(
                "is {:?}, but a name has 1 to 127 letters, digits, dashes, underlines, dots and slashes",
                shown(&name)
            ));
        }
        if names.contains(&name) {
            return path.wrong(format!("is {:?}, which stands twice", shown(&name)));
        }
        names.push(name);
        signals.push(asking);
    }
    Ok((names, signals))
}

/// Lines of the old revision in the order of time, each signal in one form.
fn read_lines(fields: &Fields<'_>, root: &Path<'_>, field: &str, names: &[String]) -> Result<Vec<Line>, Wrong> {
    let path = root.field(field);
    let Some(listed) = fields.get(field) else { return Ok(Vec::new()) };
    let mut lines: Vec<Line> = Vec::new();
    let mut forms: Vec<Option<Form>> = vec![None; names.len()];
    for (index, entry) in listed.list(&path)?.iter().enumerate() {
        let path = path.index(index);
        let line = Line::read(entry, &path, Which::History, names)?;
        if let Some(before) = lines.last().filter(|before| line.t <= before.t) {
            return path
                .field("t")
                .wrong(format!("is {}, but the reading before has {}; time must go on", line.t, before.t));
        }
        for ((form, reading), name) in forms.iter_mut().zip(&line.signals).zip(names) {
            let Some(found) = reading.as_ref().and_then(super::line::Reading::form) else { continue };
            if let Some(before) = form.filter(|before| *before != found) {
                return path.field("signals").field(name).wrong(format!(
                    "gives {}, but readings before give {}; a signal keeps its form",
                    found.words(),
                    before.words()
                ));
            }
            *form = Some(found);
        }
        lines.push(line);
    }
    Ok(lines)
}

/// How much a leak's value grew a step at the previous revision's own start, by signal.
fn read_growth(fields: &Fields<'_>, root: &Path<'_>, names: &[String]) -> Result<Vec<Vec<f64>>, Wrong> {
    let mut growth = vec![Vec::new(); names.len()];
    let path = root.field("growth");
    let Some(listed) = fields.get("growth") else { return Ok(growth) };
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let listed = listed.fields(&path, &known)?;
    for (name, growth) in names.iter().zip(&mut growth) {
        let Some(values) = listed.get(name) else { continue };
        let path = path.field(name);
        for (index, value) in values.list(&path)?.iter().enumerate() {
            growth.push(value.number(&path.index(index))?);
        }
    }
    Ok(growth)
}
