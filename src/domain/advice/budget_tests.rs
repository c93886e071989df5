use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

const PRICE: Price = Price { input: 880_000, output: 1_320_000 };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage { input, output }
}

#[test]
fn money_is_counted_in_millionths_and_rounded_up() {
    assert_eq!(PRICE.of(tokens(1_000_000, 0)), 880_000);
    assert_eq!(PRICE.of(tokens(1, 0)), 1);
    assert_eq!(PRICE.of(tokens(8000, 2048)), 7040 + 2704);
    assert_eq!(Price { input: u64::MAX, output: u64::MAX }.of(tokens(u64::MAX, u64::MAX)), u64::MAX);
}

#[test]
fn each_limit_is_named_when_it_is_used_up() {
    let cases = [
        (Limits { calls_per_hour: Some(1), ..Limits::default() }, "callsPerHour"),
        (Limits { calls_per_day: Some(1), ..Limits::default() }, "callsPerDay"),
        (Limits { tokens_per_hour: Some(15_000), ..Limits::default() }, "tokensPerHour"),
        (Limits { tokens_per_day: Some(15_000), ..Limits::default() }, "tokensPerDay"),
        (Limits { spend_per_day: Some(15_000), ..Limits::default() }, "spendPerDay"),
    ];
    for (limits, word) in cases {
        let mut budget = Budget::default();
        let first = budget.reserve(&limits, PRICE, tokens(8000, 2048), at(0));
        assert!(first.is_ok(), "{word}");
        let before = budget;
        let second = budget.reserve(&limits, PRICE, tokens(8000, 2048), at(1));
        assert_eq!(second.map_err(Exhausted::as_str), Err(word));
        assert_eq!(budget, before, "a refusal sets nothing aside");
    }
}

#[test]
fn what_was_set_aside_and_not_used_can_be_used_by_others() {
    let limits = Limits { tokens_per_hour: Some(12_000), ..Limits::default() };
    let mut budget = Budget::default();
    let first = budget.reserve(&limits, PRICE, tokens(8000, 2000), at(0)).unwrap();
    assert!(budget.reserve(&limits, PRICE, tokens(8000, 2000), at(0)).is_err());
    budget.settle(first, tokens(1500, 200));
    assert_eq!((budget.hour.tokens, budget.day.spend), (1700, PRICE.of(tokens(1500, 200))));
    let second = budget.reserve(&limits, PRICE, tokens(8000, 2000), at(0)).unwrap();
    budget.give_back(second);
    assert_eq!((budget.hour.calls, budget.hour.tokens), (1, 1700));
}

#[test]
fn a_provider_that_does_not_say_what_it_used_costs_what_was_set_aside() {
    let mut budget = Budget::default();
    let call = budget.reserve(&Limits::default(), PRICE, tokens(8000, 2000), at(0)).unwrap();
    budget.settle(call, Usage::default());
    assert_eq!(budget.hour.tokens, 10_000);
}

#[test]
fn an_hour_and_a_day_begin_anew_when_they_are_over() {
    let limits = Limits { calls_per_hour: Some(1), calls_per_day: Some(2), ..Limits::default() };
    let mut budget = Budget::default();
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(0)).is_ok());
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(3599)).is_err());
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(3600)).is_ok());
    assert_eq!(budget.reserve(&limits, PRICE, tokens(1, 1), at(7200)), Err(Exhausted::CallsPerDay));
    assert_eq!(budget.at(at(86_400)).day.calls, 0);
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(86_400)).is_ok());
}

#[test]
fn a_clock_that_jumps_back_gives_no_budget_anew_and_blocks_for_one_hour_at_most() {
    let limits = Limits { calls_per_hour: Some(1), ..Limits::default() };
    let mut budget = Budget::default();
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(1_000_000)).is_ok());
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(10)).is_err());
    // A refusal is stored as it was shown: the hour now begins where the clock is.
    budget = budget.at(at(10));
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(3609)).is_err());
    assert!(budget.reserve(&limits, PRICE, tokens(1, 1), at(3610)).is_ok());
}

#[test]
fn what_was_set_aside_in_the_last_hour_is_not_given_back_to_this_one() {
    let mut budget = Budget::default();
    let late = budget.reserve(&Limits::default(), PRICE, tokens(8000, 2000), at(0)).unwrap();
    let next = budget.reserve(&Limits::default(), PRICE, tokens(8000, 2000), at(3600)).unwrap();
    budget.settle(late, tokens(1, 1));
    assert_eq!((budget.hour.tokens, budget.day.tokens), (10_000, 10_002));
    budget.settle(next, tokens(1, 1));
    assert_eq!((budget.hour.tokens, budget.day.tokens), (2, 4));
}

#[test]
fn a_thousand_that_ask_at_once_never_exceed_a_budget() {
    let limits = Limits { calls_per_hour: Some(100), spend_per_day: Some(500_000), ..Limits::default() };
    let (budget, called) = (Mutex::new(Budget::default()), Mutex::new((0_u64, 0_u64)));
    std::thread::scope(|scope| {
        for asker in 0..1000_u64 {
            let (budget, called) = (&budget, &called);
            scope.spawn(move || {
                let reserved = budget.lock().unwrap().reserve(&limits, PRICE, tokens(8000, 2048), at(0));
                if let Ok(reserved) = reserved {
                    let used = tokens(1000 + asker, 100);
                    let mut sum = called.lock().unwrap();
                    *sum = (sum.0 + 1, sum.1 + PRICE.of(used));
                    drop(sum);
                    budget.lock().unwrap().settle(reserved, used);
                }
            });
        }
    });
    let (calls, spend) = *called.lock().unwrap();
    assert!(calls > 40 && calls <= 100 && spend <= 500_000, "{calls} calls, {spend}");
    let budget = budget.into_inner().unwrap();
    assert_eq!((budget.hour.calls, budget.day.spend), (calls, spend));
}

#[derive(Debug, Clone)]
enum Move {
    Ask(u64, u64),
    Settle(usize, u64, u64),
    GiveBack(usize),
    Later(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let each = prop_oneof![
        4 => (0_u64..5000, 0_u64..2048).prop_map(|(input, output)| Move::Ask(input, output)),
        2 => (0_usize..8, 0_u64..5000, 0_u64..2048).prop_map(|(which, input, output)| Move::Settle(which, input, output)),
        1 => (0_usize..8).prop_map(Move::GiveBack),
        1 => (-4000_i64..8000).prop_map(Move::Later),
    ];
    prop::collection::vec(each, 0..200)
}

proptest! {
    #[test]
    fn in_any_order_what_is_used_and_set_aside_stays_within_the_limits(moves in moves()) {
        let limits = Limits {
            calls_per_hour: Some(7), calls_per_day: Some(20), tokens_per_hour: Some(20_000), tokens_per_day: Some(60_000),
            spend_per_day: Some(50_000),
        };
        let (mut budget, mut open, mut now) = (Budget::default(), Vec::new(), 1_000_000);
        for step in moves {
            match step {
                Move::Ask(input, output) => {
                    let most = tokens(input, output);
                    if let Ok(reserved) = budget.reserve(&limits, PRICE, most, at(now)) {
                        open.push((reserved, most));
                    }
                }
                Move::Settle(which, input, output) if which < open.len() => {
                    let (reserved, most) = open.swap_remove(which);
                    budget.settle(reserved, tokens(input.min(most.input), output.min(most.output)));
                }
                Move::GiveBack(which) if which < open.len() => budget.give_back(open.swap_remove(which).0),
                Move::Settle(..) | Move::GiveBack(_) => {}
                Move::Later(seconds) => now += seconds,
            }
            prop_assert!(budget.hour.calls <= 7 && budget.day.calls <= 20, "{:?}", budget);
            prop_assert!(budget.hour.tokens <= 20_000 && budget.day.tokens <= 60_000, "{:?}", budget);
            prop_assert!(budget.day.spend <= 50_000, "{:?}", budget);
        }
        let stored: Budget = serde_json::from_str(&serde_json::to_string(&budget).unwrap()).unwrap();
        prop_assert_eq!((stored.hour.calls, stored.day.spend), (budget.hour.calls, budget.day.spend));
    }
}
