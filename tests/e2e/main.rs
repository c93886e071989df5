//! The whole thing on a real cluster: the operator as a pod, real traffic, a real Prometheus.
//!
//! Role: what only a cluster can show. Run by `make e2e`, inside a testbed. Each test has a namespace of its own; those
//! that leave the cluster alone run side by side, those that stop parts of it take turns afterwards, and
//! last, one by one, come those that put another operator in the place of ours.
//! Arguments: parts of test names; `--list`; `--test-threads=N`.

mod api;
mod approval;
mod argo_cd;
mod causes;
mod chart;
mod cli;
mod cluster_faults;
mod evidence;
mod facts;
mod git;
mod gitops;
mod guarantee;
mod helm;
mod holds;
mod kinds;
mod known_good;
mod leader;
mod llm;
mod operator_faults;
mod ownership;
mod pipelines;
mod policies;
mod releases;
mod runner;
mod scene;
mod side_by_side;
mod signals;
mod targets;
mod undo;
mod world;

use std::process::ExitCode;

use testbed::cluster::Cluster;

use crate::runner::{Runner, cases};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let runner = Runner::from_arguments(std::env::args().skip(1), [together(), in_turn(), alone()]);
    if runner.lists() {
        return ExitCode::SUCCESS;
    }
    let Ok(cluster) = Cluster::join() else {
        eprintln!("error: these tests need a cluster of their own: run them with `make e2e`");
        return ExitCode::from(2);
    };
    if let Err(error) = world::install(&cluster).await {
        eprintln!("error: the operator cannot be installed: {error:#}");
        eprintln!("{}", world::operator_log(&cluster).await);
        return ExitCode::FAILURE;
    }
    runner.run(&cluster).await
}

/// Tests that leave the cluster alone, the long ones first.
fn together() -> Vec<runner::Case> {
    cases![
        holds::a_registry_that_is_down_for_everybody_is_not_held_against_a_release,
        holds::a_node_that_is_lost_while_a_release_rolls_out_is_not_held_against_it,
        holds::a_node_on_which_every_version_crashes_is_not_held_against_a_release,
        holds::pods_that_no_node_takes_are_not_held_against_a_release,
        approval::an_undo_that_does_not_help_is_said_and_nothing_more_is_undone,
        approval::the_storm_breaker_of_a_class_stops_further_undos,
        approval::what_was_undone_and_is_pushed_again_is_left_and_named,
        approval::what_a_person_approves_by_the_command_that_the_guard_shows_is_undone,
        approval::in_recommend_the_command_that_is_shown_undoes_the_release,
        approval::a_revision_that_says_it_is_irreversible_needs_approval_in_enforce,
        approval::what_a_person_rejects_stays_as_it_is,
        cli::a_pipeline_that_waits_hears_the_verdict_on_what_it_applied,
        cli::what_a_person_approves_on_the_command_line_is_undone,
        cli::an_undo_by_hand_is_conditional_and_leaves_nothing_of_the_template_owned,
        holds::two_bad_nodes_under_a_large_daemon_set_undo_nothing,
        kinds::a_stateful_set_stuck_on_a_missing_image_is_freed_by_the_deletion_of_one_pod,
        kinds::a_stateful_set_in_a_crash_loop_is_undone_and_verified,
        kinds::below_a_partition_no_pod_is_touched_or_waited_for,
        kinds::a_guard_that_is_to_alert_names_the_stuck_pod_and_leaves_it,
        kinds::under_on_delete_a_guard_that_may_deletes_the_bad_pods_and_no_other,
        kinds::under_on_delete_the_pods_of_a_stateful_set_are_named_and_left,
        kinds::under_on_delete_the_pods_of_a_daemon_set_are_named_and_left,
        kinds::a_daemon_set_in_a_crash_loop_is_undone_and_verified,
        facts::a_program_that_the_kubelet_kills_for_its_liveness_is_undone,
        facts::a_service_that_exits_once_at_each_start_is_undone_when_it_always_does,
        known_good::ten_bad_releases_in_a_row_are_each_undone_to_the_same_good_one,
        known_good::over_a_bad_release_that_nobody_undid_the_good_one_before_it_is_gone_back_to,
        causes::evidence_of_harm_waits_for_a_minute_after_scaling_and_counts_then,
        known_good::without_any_history_a_release_is_undone_to_what_the_guard_kept,
        known_good::an_undo_whose_pods_a_quota_keeps_out_times_out_and_says_so,
        llm::a_model_that_obeys_every_line_it_reads_undoes_no_healthy_release,
        llm::a_model_that_obeys_every_line_it_reads_keeps_no_bad_release,
        llm::a_model_that_agrees_in_the_grey_zone_undoes_the_release,
        llm::a_model_that_disagrees_changes_nothing_and_suppresses_nothing,
        llm::models_that_hang_die_fail_and_lie_are_listed_and_evidence_decides,
        llm::with_every_model_dead_a_crash_loop_is_undone_as_soon_as_without_any,
        llm::what_was_done_is_explained_afterwards,
        evidence::evidence_undoes_a_bad_release_and_its_recording_replays_to_the_same_bits,
        undo::a_release_with_40_percent_errors_is_undone_once_and_verified,
        facts::a_program_that_exits_is_undone,
        facts::a_workload_of_one_pod_on_one_node_that_crashes_is_undone_all_the_same,
        facts::a_program_that_eats_its_memory_is_undone,
        facts::an_image_that_does_not_exist_is_undone,
        facts::a_key_that_a_config_map_lacks_is_undone,
        facts::a_variable_from_a_config_map_that_is_missing_is_undone,
        facts::a_command_that_is_not_in_the_image_is_undone,
        facts::a_readiness_that_never_comes_is_undone,
        facts::a_progress_deadline_that_passes_with_unready_pods_is_undone,
        facts::an_init_container_that_fails_is_undone,
        facts::a_sidecar_that_crashes_is_undone,
        facts::a_hook_that_fails_is_undone,
        facts::a_volume_that_cannot_be_mounted_is_undone,
        holds::evicted_pods_are_not_held_against_a_release,
        holds::a_quota_that_lets_no_new_pod_in_is_not_held_against_a_release,
        holds::a_service_that_exits_twice_at_each_start_as_before_is_kept,
        undo::a_fix_pushed_while_the_bad_release_is_judged_is_not_undone,
        releases::a_good_release_passes_and_leaves_a_sample_that_goes_with_the_guard,
        gitops::with_its_sync_suspended_an_undo_lasts_until_git_has_a_new_revision,
        gitops::an_undo_that_flux_reverts_is_said_with_its_name_and_not_repeated,
        gitops::a_bad_release_from_flux_is_recommended_with_its_commands_and_not_touched,
        gitops::what_may_not_be_suspended_is_not_undone_and_the_server_says_why,
        gitops::after_an_undo_the_next_helm_upgrade_succeeds,
        gitops::after_an_undo_helm_rollback_changes_helms_record_alone,
        pipelines::helm_waits_for_the_verdict_of_a_guard_in_the_chart,
        pipelines::helm_names_a_guard_that_is_stuck,
        pipelines::a_health_check_of_flux_has_the_verdict_of_the_guard,
        argo_cd::an_undo_that_argo_cd_heals_away_is_said_with_its_name_and_not_repeated,
        argo_cd::with_self_heal_suspended_an_undo_lasts_until_there_is_a_new_revision,
        ownership::after_an_undo_server_side_apply_has_no_conflict_and_removes_what_only_the_old_version_had,
        kinds::after_an_undo_a_stateful_set_is_applied_server_side_without_conflict,
        kinds::after_an_undo_a_daemon_set_is_applied_server_side_without_conflict,
        ownership::after_an_undo_client_side_apply_has_no_conflict_and_the_record_says_what_stays,
        releases::a_service_without_metrics_is_never_called_healthy_and_never_undone,
        releases::errors_of_a_cold_start_are_not_held_against_a_release,
        releases::in_observe_a_bad_release_is_reported_and_nothing_is_touched,
        signals::a_selector_that_prometheus_refuses_blinds_its_own_guard_only,
        signals::a_selector_that_is_no_promql_is_named_and_other_guards_go_on,
        undo::a_policy_that_refuses_the_undo_is_named_and_the_workload_is_left_alone,
        undo::a_deployment_paused_while_it_is_judged_is_not_undone,
        causes::a_config_map_changed_in_place_is_named_and_not_undone,
        causes::a_config_map_that_was_changed_before_a_bad_release_is_named_beside_the_undo,
        causes::a_restart_that_fails_for_reasons_of_its_own_is_not_undone,
        known_good::what_is_kept_goes_with_the_guard_and_nothing_else_does,
        targets::a_paused_deployment_is_left_alone_until_it_is_resumed,
        targets::a_guard_waits_for_its_deployment_and_follows_it_when_it_is_made_anew,
        targets::a_guard_of_an_unknown_class_waits_until_the_class_exists,
        targets::of_two_guards_on_one_deployment_the_younger_stands_aside,
        policies::a_guard_that_acts_needs_the_right_to_patch_its_target,
        policies::who_may_not_patch_the_target_changes_of_an_acting_guard_only_what_undoes_nothing,
        policies::with_the_example_only_who_may_enforce_writes_mode_enforce,
        policies::only_approvers_answer_and_only_in_their_own_name,
        policies::the_operator_changes_template_and_annotations_of_workloads_and_nothing_else,
        policies::the_operator_deletes_only_pods_of_stateful_and_daemon_sets_and_each_by_its_uid,
        policies::the_operator_writes_only_controller_revisions_and_config_maps_of_guards,
        side_by_side::what_kubectl_rollout_undo_loses_is_kept,
        side_by_side::an_autoscaler_that_writes_at_the_same_moment_does_not_matter,
        api::the_api_server_refuses_each_bad_spec_with_its_sentence,
        api::a_guard_of_three_lines_is_accepted_without_warnings_and_reads_well,
    ]
}

/// Tests that stop parts of the cluster.
fn in_turn() -> Vec<runner::Case> {
    cases![
        operator_faults::an_operator_killed_again_and_again_undoes_a_bad_release_exactly_once,
        operator_faults::a_right_that_the_operator_lacks_is_named_before_a_release_needs_it,
        operator_faults::an_intent_left_by_a_dead_operator_is_finished_once_or_found_done,
        gitops::a_suspended_sync_is_given_back_in_time_though_operator_and_guard_are_gone,
        guarantee::an_operator_that_dies_at_each_step_before_the_patch_undoes_once,
        guarantee::an_operator_that_dies_at_each_step_after_the_patch_undoes_once,
        guarantee::an_operator_that_dies_at_each_step_of_the_verification_undoes_once,
        guarantee::an_operator_that_dies_around_a_stuck_pod_frees_the_set_once,
        guarantee::an_operator_that_dies_around_an_approval_asks_once_and_undoes_once,
        leader::of_two_replicas_one_leads_and_the_other_follows_a_graceful_end_within_seconds,
        leader::a_leader_that_is_killed_in_a_rollout_is_followed_and_the_release_undone_once,
        leader::a_leader_that_is_cut_off_stops_before_the_other_begins_and_writes_nothing_more,
        leader::a_leader_that_was_frozen_writes_nothing_when_it_wakes_up,
        evidence::an_operator_killed_in_the_analysis_decides_as_one_that_was_not,
        cluster_faults::without_prometheus_a_good_release_is_neither_undone_nor_called_healthy,
        cluster_faults::a_restart_of_the_api_server_loses_no_verdict_and_causes_no_undo,
    ]
}

/// Tests that put another operator in the place of the one that all others share.
fn alone() -> Vec<runner::Case> {
    cases![
        chart::a_release_of_the_chart_is_installed_upgraded_rolled_back_and_removed,
        chart::with_roles_in_one_namespace_a_bad_release_is_undone_there,
        chart::a_suspended_sync_is_given_back_before_the_operator_is_removed,
    ]
}
