//! The reference vectors, the supermartingale property, and what must never matter.

use proptest::prelude::*;

use super::*;

const ERRORS: Allowance = Allowance { ratio: 1.25, excess: 0.001 };
const BOUND: Allowance = Allowance { ratio: 2.0, excess: 0.002 };
const ONSET: Onset = Onset { start_mass: 0.5, steps: 120 };

fn harm(steps: &[[u64; 4]]) -> Vec<f64> {
    let test = HarmTest::new(ERRORS, 1.0, 0.01);
    let mut state = Harm::default();
    let mut found = Vec::new();
    for [bad, total, old_bad, old_total] in steps {
        let add = test.increments(Counts::new(*bad, *total), Counts::new(*old_bad, *old_total));
        state.step(ONSET, test.cap(), &add);
        found.push(state.ln_e());
    }
    found
}

fn safety(steps: &[[u64; 4]]) -> Vec<f64> {
    let test = SafetyTest::new(BOUND, 1.0, 0.05);
    let mut state = Safety::default();
    let mut found = Vec::new();
    for [bad, total, old_bad, old_total] in steps {
        let add = test.increments(Counts::new(*bad, *total), Counts::new(*old_bad, *old_total));
        state.step(test.cap(), &add);
        found.push(state.ln_e());
    }
    found
}

/// Steps of new bad, new total, old bad, old total, and what the reference makes of them: ln E of harm, of safety.
type Vector = (&'static [[u64; 4]], &'static [f64], &'static [f64]);

#[test]
fn the_vectors_of_the_reference_come_out() {
    let vectors: [Vector; 5] = [
        (
            &[[38, 750, 8, 750], [41, 760, 7, 742], [35, 748, 9, 755]],
            &[2.250_780_851_938, 5.625_893_997_045, 8.763_319_893_653],
            &[-4.473_225_239_699, -7.291_825_385_641, -9.215_470_433_954],
        ),
        (
            &[[7, 750, 8, 750], [9, 760, 7, 742], [6, 748, 9, 755]],
            &[-0.620_526_777_200, -0.648_330_752_542, -0.685_607_953_620],
            &[0.492_839_184_377, 0.675_466_184_287, 2.096_506_900_594],
        ),
        (
            &[[1, 3, 0, 3], [0, 2, 0, 4], [1, 3, 0, 3], [1, 4, 0, 2]],
            &[0.247_160_328_827, 0.245_806_808_593, 0.555_416_371_691, 0.762_118_333_259],
            &[-0.967_471_437_189, -0.965_569_645_825, -1.483_696_022_828, -1.719_103_588_432],
        ),
        (
            &[[0, 0, 8, 750], [38, 750, 0, 0], [38, 750, 8, 750], [38, 750, 8, 1500]],
            &[0.0, 0.0, 2.265_705_611_387, 5.669_372_151_017],
            &[0.0, 0.0, -4.473_225_239_699, -9.049_757_625_851],
        ),
        (
            &[[4, 750, 0, 750], [3, 740, 0, 760]],
            &[0.929_628_779_277, 1.821_405_733_860],
            &[-1.772_154_287_635, -2.183_185_074_220],
        ),
    ];
    for (steps, bad, good) in vectors {
        for (found, wanted) in harm(steps).iter().zip(bad).chain(safety(steps).iter().zip(good)) {
            assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted} in {steps:?}");
        }
    }
}

/// The probability of `k` of `n` events at rate `p`.
fn binomial(n: u64, k: u64, p: f64) -> f64 {
    use crate::domain::evidence::number::to_f64;
    let choose: f64 = (0..k).map(|i| to_f64(n - i) / to_f64(i + 1)).product();
    choose * p.powi(i32::try_from(k).unwrap()) * (1.0 - p).powi(i32::try_from(n - k).unwrap())
}

/// Exact expectation of L over every outcome of one step.
fn expectation(n_c: u64, n_b: u64, p_c: f64, p_b: f64, of: &dyn Fn(Counts, Counts) -> f64) -> f64 {
    let mut sum = 0.0;
    for x_c in 0..=n_c {
        for x_b in 0..=n_b {
            sum += binomial(n_c, x_c, p_c) * binomial(n_b, x_b, p_b) * of(Counts::new(x_c, n_c), Counts::new(x_b, n_b));
        }
    }
    sum
}

#[test]
fn no_bet_gains_on_average_where_the_null_holds() {
    let harm = HarmTest::new(ERRORS, 1.0, 0.01);
    let safety = SafetyTest::new(BOUND, 1.0, 0.05);
    for (n_c, n_b) in [(1, 1), (3, 9), (9, 3), (6, 6), (1, 12)] {
        for p_b in [0.0, 0.01, 0.2, 0.5, 0.8] {
            for ratio in 0..HARM_RATIOS {
                // At the edge of the null, where it is hardest.
                let p_c = f64::min(1.0, ERRORS.ratio * p_b + ERRORS.excess);
                let e =
                    expectation(n_c, n_b, p_c, p_b, &|new, old| harm.increments(new, old)[ratio].min(harm.cap()).exp());
                assert!(e <= 1.0 + 1e-12, "{n_c} {n_b} {p_b} {ratio}: {e}");
            }
            for ratio in 0..SAFETY_RATIOS {
                let p_c = BOUND.ratio * p_b + BOUND.excess;
                if p_c > 1.0 {
                    continue;
                }
                let e = expectation(n_c, n_b, p_c, p_b, &|new, old| {
                    safety.increments(new, old)[ratio].min(safety.cap()).exp()
                });
                assert!(e <= 1.0 + 1e-12, "safety {n_c} {n_b} {p_b} {ratio}: {e}");
            }
        }
    }
}

#[test]
fn clusters_up_to_phi_gain_nothing_either() {
    // Every bad request takes its whole connection of three requests with it.
    let harm = HarmTest::new(ERRORS, 3.0, 0.01);
    for p in [0.05, 0.3, 0.7] {
        for ratio in 0..HARM_RATIOS {
            let e = expectation(4, 4, f64::min(1.0, ERRORS.ratio * p), p, &|new, old| {
                let (new, old) = (Counts::new(new.bad * 3, 12), Counts::new(old.bad * 3, 12));
                harm.increments(new, old)[ratio].min(harm.cap()).exp()
            });
            assert!(e <= 1.0 + 1e-12, "{p} {ratio}: {e}");
        }
    }
}

/// A small generator of random numbers, so that the run is the same everywhere (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn chance(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / 4_294_967_296.0
    }

    fn events(&mut self, of: u64, rate: f64) -> u64 {
        (0..of).map(|_| u64::from(self.chance() < rate)).sum()
    }
}

#[test]
fn the_threshold_is_crossed_no_more_often_than_alpha_by_monte_carlo() {
    let test = HarmTest::new(ERRORS, 1.0, 0.05);
    let (mut dice, mut crossed) = (Dice(7), 0);
    let runs = 1000;
    for _ in 0..runs {
        let mut state = Harm::default();
        for _ in 0..40 {
            // At the edge: 1.25 times as many errors and one in a thousand on top.
            let new = Counts::new(dice.events(40, 0.051 * 1.25 + 0.001), 40);
            let old = Counts::new(dice.events(40, 0.051), 40);
            state.step(Onset { start_mass: 0.5, steps: 40 }, test.cap(), &test.increments(new, old));
            if state.ln_e() >= 20_f64.ln() {
                crossed += 1;
                break;
            }
        }
    }
    assert!(crossed <= 65, "{crossed} of {runs}");
}

#[test]
fn a_thousand_million_requests_a_step_are_counted_as_well_as_three() {
    let million = 1_000_000;
    let last = *harm(&[[5 * million, 1000 * million, 5 * million, 1000 * million]; 20]).last().unwrap();
    assert!(last.is_finite() && last < 0.0, "{last}");
    let worse = harm(&[[15 * million, 1000 * million, 5 * million, 1000 * million]; 2]);
    assert!(worse[0] < 100_f64.ln() && worse[1] >= 100_f64.ln(), "{worse:?}");
    let rare = harm(&[[1, 3, 0, 3]; 50]);
    assert!(rare.iter().all(|e| e.is_finite()) && rare[49] > 100_f64.ln());
}

#[test]
fn one_step_alone_never_decides() {
    for n in [100, 10_000, 1_000_000_000] {
        assert!(harm(&[[n, n, 0, n]])[0] < 100_f64.ln());
    }
}

#[test]
fn bursts_and_spread_are_measured_on_the_safe_side() {
    let mut dice = Dice(3);
    let independent: Vec<Counts> = (0..200).map(|_| Counts::new(dice.events(300, 0.05), 300)).collect();
    let phi = phi_over_time(&independent).unwrap();
    assert!((1.0..1.6).contains(&phi), "{phi}");
    let bursts: Vec<Counts> = (0..200).map(|_| Counts::new(8 * dice.events(40, 0.05), 320)).collect();
    let phi = phi_over_time(&bursts).unwrap();
    assert!((7.0..14.0).contains(&phi), "{phi}");
    assert_eq!(phi_over_time(&[Counts::new(0, 100); 50]), None);
    assert!(phi_over_time(&[Counts::new(0, 100), Counts::new(1, 100)]).unwrap() >= 1.5);
    let pods: Vec<Vec<Counts>> =
        (0..100).map(|_| (0..4).map(|_| Counts::new(5 * dice.events(40, 0.05), 200)).collect()).collect();
    let phi = phi_between_pods(pods.iter().map(Vec::as_slice)).unwrap();
    assert!((4.5..9.0).contains(&phi), "{phi}");
    assert_eq!(spread_over_time(&independent[..100], 1.0), None);
    let changing: Vec<Counts> = (0..200).map(|i| Counts::new(if i / 20 % 2 == 0 { 10 } else { 40 }, 500)).collect();
    assert!(spread_over_time(&changing, 1.0).unwrap() > 0.2);
    assert!(widened(1.25, Some(0.0), None) < 1.250_000_1);
    assert!(widened(1.25, None, None) > 1.99);
    assert!(widened(1.25, Some(0.1), Some((2, 2))) > 2.0);
    let even = spread_between_pods(&[Counts::new(50, 1000), Counts::new(52, 1000)], 1.0);
    assert!(even < 1e-9 && spread_between_pods(&[Counts::new(50, 1000), Counts::new(200, 1000)], 1.0) > 0.1);
}

#[test]
fn boundaries_lie_where_requests_are() {
    let slower = |shares: &[u64]| shares.iter().map(|bad| Counts::new(*bad, 1000)).collect::<Vec<_>>();
    assert_eq!(choose_boundaries(&slower(&[990, 520, 300, 110, 30, 1, 0]), 3), vec![1, 3, 4]);
    assert_eq!(choose_boundaries(&slower(&[990, 520, 300, 110, 30, 1, 0]), 1), vec![3]);
    assert_eq!(choose_boundaries(&slower(&[990, 100, 0]), 3), vec![1]);
    assert!(choose_boundaries(&slower(&[990, 2, 0]), 3).is_empty());
    assert!(choose_boundaries(&[], 3).is_empty());
}

proptest! {
    #[test]
    fn more_new_errors_never_lower_the_evidence_and_more_old_ones_never_raise_it(
        total in 1_u64..2000, old_total in 1_u64..2000, bad in 0_u64..2000, old_bad in 0_u64..2000,
        more in 0_u64..50,
    ) {
        let (bad, old_bad) = (bad.min(total), old_bad.min(old_total));
        let base = harm(&[[bad, total, old_bad, old_total]])[0];
        let worse = harm(&[[(bad + more).min(total), total, old_bad, old_total]])[0];
        let excused = harm(&[[bad, total, (old_bad + more).min(old_total), old_total]])[0];
        prop_assert!(worse >= base - 1e-12);
        prop_assert!(excused <= base + 1e-12);
    }

    #[test]
    fn evidence_is_always_a_number(
        steps in proptest::collection::vec([0_u64..=1 << 40, 0_u64..=1 << 40, 0_u64..=1 << 40, 0_u64..=1 << 40], 1..20),
    ) {
        let steps: Vec<[u64; 4]> =
            steps.iter().map(|[a, b, c, d]| [*a.min(b), *b.max(a), *c.min(d), *d.max(c)]).collect();
        for e in harm(&steps).iter().chain(&safety(&steps)) {
            prop_assert!(!e.is_nan() && *e < f64::INFINITY);
        }
    }
}
