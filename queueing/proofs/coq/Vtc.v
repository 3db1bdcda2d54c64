(** VTC for any number of clients, with weights, any rule of admission, and prompts charged whole or chunk by chunk.

    The first system knows no tokens but charges: an admission charges now and commits to later, and if no admission
    makes what it charges and all that is committed exceed U, then U is the constant of every bound.  The second system
    has tokens, and its rules of admission give U: by reservation U* = wq M + max(0, wp - wq) L for whole prompts and
    max(wp, wq) M for chunks.

    Notation: of client i, c the counter, R the charge committed and not yet made, srv the service so far, Q whether a
    request of it waits; v the floor, which no scheduler reads; last the last client to leave Q.  A charge of 1 adds k i
    to c i, so that weights are in proportion to 1/k i and all numbers whole.

    Source: Sheng et al., OSDI 2024, arXiv 2401.00588 (algorithm, bounds with another constant and factors 1, 2, 4,
    recalled); constants, floor, weights and proofs are our derivation.  The same system in Python:
    queueing/models/vtc.py; weights 1 and reservation alone: Counters.v. *)

From Coq Require Import ZArith Lia Arith Bool.
From Tandem Require Import Counters.
Local Open Scope Z_scope.

(** Runs all of whose states satisfy P. *)
Inductive run {A : Type} (step : A -> A -> Prop) (P : A -> Prop) (s : A) : A -> Prop :=
| here : P s -> run step P s s
| further t u : run step P s t -> step t u -> P u -> run step P s u.

Lemma run_ends {A} step P (s t : A) : run step P s t -> P s /\ P t.
Proof. induction 1 as [|t u _ [Ps _] _ Pu]; auto. Qed.

(** * Charges *)

Record state := { c : nat -> Z; R : nat -> Z; srv : nat -> Z; Q : nat -> bool; v : Z; last : nat }.

Section Charges.
  Variable N : nat.
  Variable U : Z.
  Variable k : nat -> Z.
  Hypothesis U_nonneg : 0 <= U.
  Hypothesis k_pos : forall i, 0 < k i.
  (** What a lift to x makes of a counter: VTC takes Z.max, and only T3 and T4 need that it does not fall. *)
  Variable raise : Z -> Z -> Z.
  Hypothesis raised : forall a x, x <= raise a x <= Z.max a x.

  (** The counter to which a client that comes back is lifted: the least in Q, or that of the last to leave it. *)
  Definition lifts (s : state) (x : Z) : Prop :=
    ((exists j, (j < N)%nat /\ Q s j = true /\ x = c s j) /\ forall i, (i < N)%nat -> Q s i = true -> x <= c s i)
    \/ ((forall i, (i < N)%nat -> Q s i = false) /\ x = c s (last s)).

  (** What each event leaves: u comes back and is lifted to x;  a is charged now and commits to later, and stays in Q if
      more of it waits;  of what is committed every client i is charged d i;  y of what a committed is not needed. *)
  Definition arrived (s : state) (u : nat) (x : Z) : state :=
    {| c := set (c s) u (raise (c s u) x); R := R s; srv := srv s; Q := set (Q s) u true; v := x; last := last s |}.
  Definition admitted (s : state) (a : nat) (now later : Z) (stays : bool) : state :=
    {| c := set (c s) a (c s a + k a * now); R := set (R s) a (R s a + later); srv := set (srv s) a (srv s a + now);
       Q := set (Q s) a stays; v := c s a; last := if stays then last s else a |}.
  Definition charged (s : state) (d : nat -> Z) : state :=
    {| c := fun i => c s i + k i * d i; R := fun i => R s i - d i; srv := fun i => srv s i + d i; Q := Q s; v := v s;
       last := last s |}.
  Definition released (s : state) (a : nat) (y : Z) : state :=
    {| c := c s; R := set (R s) a (R s a - y); srv := srv s; Q := Q s; v := v s; last := last s |}.

  Definition least (s : state) (a : nat) : Prop :=
    (a < N)%nat /\ Q s a = true /\ forall i, (i < N)%nat -> Q s i = true -> c s a <= c s i.

  Inductive step (s : state) : state -> Prop :=
  | arrive u x : (u < N)%nat -> Q s u = false -> lifts s x -> step s (arrived s u x)
  | admit a now later stays : least s a -> 0 <= now -> 0 <= later -> now + sum N (R s) + later <= U ->
      step s (admitted s a now later stays)
  | charge d : (forall i, 0 <= d i <= R s i) -> step s (charged s d)
  | release a y : (a < N)%nat -> 0 <= y <= R s a -> step s (released s a y).

  (** The charge by which i is behind the floor and that may still come, and the room between i and its bound. *)
  Definition sigma (s : state) (i : nat) : Z := Z.min (k i * R s i) (Z.max 0 (v s - c s i)).
  Definition room (s : state) (i : nat) : Z := v s + k i * U - c s i - k i * R s i.

  Record inv (s : state) : Prop := {
    J0 : forall i, 0 <= R s i;
    J1 : sum N (R s) <= U;
    J2 : forall i, (i < N)%nat -> Q s i = true -> v s <= c s i;
    J3 : forall i, (i < N)%nat -> 0 <= room s i;
    J4 : (forall i, (i < N)%nat -> Q s i = false) -> v s <= c s (last s);
    J5 : forall f g, (f < N)%nat -> (g < N)%nat -> f <> g -> Z.min (k f) (k g) * sigma s g <= k g * room s f
  }.

  Definition zero : state :=
    {| c := fun _ => 0; R := fun _ => 0; srv := fun _ => 0; Q := fun _ => false; v := 0; last := 0 |}.

  Lemma inv_zero : inv zero.
  Proof.
    assert (Zero : sum N (fun _ => 0) = 0) by (clear; induction N as [|n IH]; cbn; lia).
    split; unfold sigma, room, zero; cbn; intros; try lia; try discriminate.
    - pose proof (k_pos i). nia.
    - pose proof (k_pos f). pose proof (k_pos g). rewrite Z.mul_0_r. cbn. nia.
  Qed.

  Lemma k_mono i a b : a <= b -> k i * a <= k i * b.
  Proof. pose proof (k_pos i). intros. apply Z.mul_le_mono_nonneg_l; lia. Qed.

  Lemma one_fits s a : inv s -> (a < N)%nat -> R s a <= sum N (R s).
  Proof. intros H. apply one_in_sum. intros i _. apply (J0 _ H). Qed.

  Lemma two_fit s a b : inv s -> (a < N)%nat -> (b < N)%nat -> a <> b -> R s a + R s b <= sum N (R s).
  Proof. intros H. apply two_in_sum. intros i _. apply (J0 _ H). Qed.

  (** How J5 is kept: sigma does not grow and the room does not shrink; or both grow, sigma by no more; or the room
      holds what g committed; or g is not behind. *)
  Lemma kept_less f g a b a' b' : Z.min (k f) (k g) * a <= k g * b -> a' <= a -> b <= b' ->
    Z.min (k f) (k g) * a' <= k g * b'.
  Proof.
    pose proof (k_pos f). pose proof (k_pos g). intros.
    assert (Z.min (k f) (k g) * a' <= Z.min (k f) (k g) * a) by (apply Z.mul_le_mono_nonneg_l; lia).
    pose proof (k_mono g b b'). lia.
  Qed.

  Lemma kept_more f g a b a' b' e : Z.min (k f) (k g) * a <= k g * b -> 0 <= e -> a' <= a + e -> b + e <= b' ->
    Z.min (k f) (k g) * a' <= k g * b'.
  Proof.
    intros H E A B. pose proof (k_pos f). pose proof (k_pos g).
    assert (Z.min (k f) (k g) * e <= k g * e) by (apply Z.mul_le_mono_nonneg_r; lia).
    apply (kept_less f g (a + e) (b + e)); [rewrite !Z.mul_add_distr_l; lia|lia|lia].
  Qed.

  Lemma kept_room f g a b y : 0 <= y -> a <= k g * y -> k f * y <= b -> Z.min (k f) (k g) * a <= k g * b.
  Proof.
    intros Y A B. pose proof (k_pos f). pose proof (k_pos g). pose proof (k_mono g _ _ B).
    assert (Z.min (k f) (k g) * a <= Z.min (k f) (k g) * (k g * y)) by (apply Z.mul_le_mono_nonneg_l; lia).
    assert (Z.min (k f) (k g) * (k g * y) <= k f * (k g * y)) by (apply Z.mul_le_mono_nonneg_r; nia). lia.
  Qed.

  Lemma kept_zero f g a b : a <= 0 -> 0 <= b -> Z.min (k f) (k g) * a <= k g * b.
  Proof. intros. pose proof (k_pos f). pose proof (k_pos g). apply (kept_less f g 0 0); lia. Qed.

  (** The floor does not fall. *)
  Lemma lifted_above s x : inv s -> lifts s x -> v s <= x.
  Proof. intros H [[(j & Hj & Qj & ->) _]|[E ->]]; [apply (J2 _ H); auto|apply (J4 _ H); auto]. Qed.

  Lemma floor_rises s t : inv s -> step s t -> v s <= v t.
  Proof.
    intros H []; cbn; try lia.
    - eapply lifted_above; eauto.
    - destruct H0 as (? & ? & _). apply (J2 _ H); auto.
  Qed.

  (** Case distinction: client i is a, or a function altered at a is what it was at i. *)
  Ltac elsewhere i a := repeat match goal with
    | |- context [set ?f a ?x i] => rewrite (set_other f a x i) by auto
    | H : context [set ?f a ?x i] |- _ => rewrite (set_other f a x i) in H by auto
    end.
  Ltac at_client i a := destruct (Nat.eq_dec i a) as [->|?]; [rewrite ?set_same in *|elsewhere i a].

  Lemma inv_arrive s u x : inv s -> (u < N)%nat -> Q s u = false -> lifts s x -> inv (arrived s u x).
  Proof.
    intros H Hu Qu Lx. pose proof (lifted_above _ _ H Lx) as Up. pose proof (J1 _ H) as Fit.
    pose proof (raised (c s u) x) as Ra.
    assert (J : forall i, (i < N)%nat -> 0 <= room (arrived s u x) i).
    { intros i Hi. pose proof (J3 _ H i Hi) as P. unfold room in *. cbn. at_client i u; [|lia].
      pose proof (k_mono u (R s u) U ltac:(pose proof (one_fits s u H Hu); lia)). lia. }
    split; cbn; try exact J; try apply H.
    - intros i Hi. at_client i u; [lia|]. intros Qi.
      destruct Lx as [[_ Least]|[None_ _]]; [auto|]. rewrite None_ in Qi by auto. discriminate.
    - intros None_. specialize (None_ u Hu). rewrite set_same in None_. discriminate.
    - intros f g Hf Hg E. pose proof (J5 _ H f g Hf Hg E) as P. pose proof (J f Hf) as Jf.
      destruct (Nat.eq_dec g u) as [->|Eg]; [apply kept_zero; [|exact Jf]; unfold sigma; cbn; rewrite set_same; lia|].
      unfold sigma, room in *. cbn in *. elsewhere g u.
      at_client f u; [|apply (kept_more f g _ _ _ _ (x - v s) P); lia].
      destruct (Z.le_gt_cases x (c s u)); [apply (kept_more u g _ _ _ _ (x - v s) P); lia|].
      apply (kept_room u g _ _ (R s g)); [apply (J0 _ H)|lia|].
      pose proof (k_mono u (R s u + R s g) U ltac:(pose proof (two_fit s u g H Hf Hg E); lia)). lia.
  Qed.

  Lemma inv_admit s a now later stays : inv s -> least s a -> 0 <= now -> 0 <= later ->
    now + sum N (R s) + later <= U -> inv (admitted s a now later stays).
  Proof.
    intros H (Ha & Qa & Least) Now Later Fit. pose proof (J2 _ H a Ha Qa) as Up.
    pose proof (k_mono a 0 now Now) as Paid. rewrite Z.mul_0_r in Paid.
    assert (J : forall i, (i < N)%nat -> 0 <= room (admitted s a now later stays) i).
    { intros i Hi. pose proof (J3 _ H i Hi). unfold room in *. cbn. at_client i a; [|lia].
      pose proof (k_mono a (now + (R s a + later)) U ltac:(pose proof (one_fits s a H Ha); lia)). lia. }
    split; cbn; try exact J.
    - intros i. pose proof (J0 _ H i). at_client i a; lia.
    - rewrite sum_set by auto. lia.
    - intros i Hi. at_client i a; [lia|auto].
    - intros None_. pose proof (None_ a Ha) as E. rewrite set_same in E. subst stays. rewrite set_same. lia.
    - intros f g Hf Hg E. pose proof (J5 _ H f g Hf Hg E) as P. pose proof (J f Hf) as Jf.
      destruct (Nat.eq_dec g a) as [->|Eg]; [apply kept_zero; [|exact Jf]; unfold sigma; cbn; rewrite !set_same; lia|].
      unfold sigma, room in *. cbn in *. elsewhere g a.
      at_client f a; [|apply (kept_more f g _ _ _ _ (c s a - v s) P); lia].
      apply (kept_room a g _ _ (R s g)); [apply (J0 _ H)|lia|].
      pose proof (k_mono a (now + (R s a + later) + R s g) U ltac:(pose proof (two_fit s a g H Hf Hg E); lia)). lia.
  Qed.

  Lemma sum_less n (f d : nat -> Z) : (forall i, 0 <= d i) -> sum n (fun i => f i - d i) <= sum n f.
  Proof. intros D. induction n as [|n IH]; cbn; [lia|]. pose proof (D n). lia. Qed.

  Lemma inv_charge s d : inv s -> (forall i, 0 <= d i <= R s i) -> inv (charged s d).
  Proof.
    intros H D. assert (W : forall i, 0 <= k i * d i) by (intros i; pose proof (k_pos i); pose proof (D i); nia).
    split; unfold sigma, room; cbn.
    - intros i. pose proof (D i). lia.
    - pose proof (sum_less N (R s) d ltac:(apply D)). pose proof (J1 _ H). lia.
    - intros i Hi Qi. pose proof (J2 _ H i Hi Qi). pose proof (W i). lia.
    - intros i Hi. pose proof (J3 _ H i Hi) as P. unfold room in P. lia.
    - intros None_. pose proof (J4 _ H None_). pose proof (W (last s)). lia.
    - intros f g Hf Hg E. apply (kept_less f g _ _ _ _ (J5 _ H f g Hf Hg E)); unfold sigma, room; [|lia].
      pose proof (W g). lia.
  Qed.

  Lemma inv_release s a y : inv s -> (a < N)%nat -> 0 <= y <= R s a -> inv (released s a y).
  Proof.
    intros H Ha Hy. pose proof (k_mono a 0 y ltac:(lia)) as W. rewrite Z.mul_0_r in W.
    split; unfold sigma, room; cbn; try apply H.
    - intros i. pose proof (J0 _ H i). at_client i a; lia.
    - rewrite sum_set by auto. pose proof (J1 _ H). lia.
    - intros i Hi. pose proof (J3 _ H i Hi) as P. unfold room in P. at_client i a; lia.
    - intros f g Hf Hg E. apply (kept_less f g _ _ _ _ (J5 _ H f g Hf Hg E)); unfold sigma, room.
      + at_client g a; lia.
      + at_client f a; lia.
  Qed.

  Lemma inv_run P s t : inv s -> run step P s t -> inv t.
  Proof.
    intros H. induction 1 as [|t u _ Ht [] _]; [exact H| | | |].
    - apply inv_arrive; auto.
    - apply inv_admit; auto.
    - apply inv_charge; auto.
    - apply inv_release; auto.
  Qed.

  Lemma floor_run P s t : inv s -> run step P s t -> v s <= v t.
  Proof.
    intros H Run. induction Run as [|t u Run IH St _]; [lia|].
    pose proof (floor_rises t u (inv_run _ _ _ H Run) St). lia.
  Qed.

  (** ** Service and counters *)

  Hypothesis kept_debt : forall a x, a <= raise a x.

  (** Service is at most the change of the counter, which a lift raises. *)
  Lemma service_step s t i : step s t -> k i * (srv t i - srv s i) <= c t i - c s i.
  Proof. destruct 1; cbn; try lia; [pose proof (kept_debt (c s u) x); at_client i u|at_client i a]; lia. Qed.

  (** Of a client that stays in Q, or out of it, it is the change. *)
  Lemma service_stays s t i : step s t -> Q s i = Q t i -> k i * (srv t i - srv s i) = c t i - c s i.
  Proof.
    destruct 1; cbn; intros E; try lia.
    - at_client i u; [congruence|lia].
    - at_client i a; lia.
  Qed.

  Lemma service_waits (P : state -> Prop) i s t :
    (forall s, P s -> Q s i = true) -> run step P s t -> k i * (srv t i - srv s i) = c t i - c s i.
  Proof.
    intros W Run. induction Run as [|t u Run IH St Pu]; [lia|].
    pose proof (run_ends _ _ _ _ Run) as [_ Pt]. pose proof (service_stays t u i St). rewrite !W in * by auto. lia.
  Qed.

  Lemma service_nonneg P s t i : run step P s t -> srv s i <= srv t i.
  Proof.
    induction 1 as [|t u _ IH St _]; [lia|].
    destruct St as [|a now later stays _ Now|d D|]; cbn; [lia|at_client i a; lia|pose proof (D i); lia|lia].
  Qed.

  (** What any client g got in a window: if it never waited, no more than what was committed before; else no more than
      its counter is above the floor at the beginning, and what it was behind. *)
  Lemma others P g s t : inv s -> (g < N)%nat -> run step P s t ->
    (Q t g = false /\ srv t g - srv s g + R t g <= R s g /\ k g * (srv t g - srv s g) = c t g - c s g)
    \/ k g * (srv t g - srv s g) <= c t g - v s + sigma s g.
  Proof.
    intros H Hg. induction 1 as [|t u Run IH St _].
    - destruct (Q s g) eqn:Qg; [right|left; repeat split; lia].
      pose proof (J2 _ H g Hg Qg). pose proof (k_mono g 0 (R s g) (J0 _ H g)). unfold sigma. lia.
    - pose proof (inv_run _ _ _ H Run) as Ht. pose proof (floor_run _ _ _ H Run) as Up.
      pose proof (service_step t u g St) as Sg. destruct IH as [(Qg & B1 & B2)|B]; [|right; lia].
      pose proof (floor_rises t u Ht St) as Up'. pose proof (J0 _ Ht g) as R0.
      pose proof (k_mono g 0 (R t g) R0) as R0'. pose proof (k_mono g _ _ B1) as B1'.
      destruct St as [w x Hw Qw Lx|a now later stays (Ha & Qa & _)|d D|a y Ha Hy]; cbn in *.
      + pose proof (raised (c t w) x). at_client g w; [right; unfold sigma; lia|left; repeat split; auto; lia].
      + assert (g <> a) by congruence. elsewhere g a. left. repeat split; auto; lia.
      + left. repeat split; auto; lia.
      + left. at_client g a; repeat split; auto; lia.
  Qed.

  (** ** The bounds *)

  (** L1: a client is ahead of one that waits by at most U/weight. *)
  Lemma charges_gap s f g : inv s -> (f < N)%nat -> (g < N)%nat -> Q s g = true -> c s f - c s g <= k f * U.
  Proof.
    intros H Hf Hg Qg. pose proof (J3 _ H f Hf) as P. pose proof (J2 _ H g Hg Qg).
    pose proof (k_mono f 0 (R s f) (J0 _ H f)). unfold room in P. lia.
  Qed.

  (** T1: two clients that wait all through a window. *)
  Lemma charges_two_backlogged s t f g : inv s -> (f < N)%nat -> (g < N)%nat ->
    run step (fun s => Q s f = true /\ Q s g = true) s t ->
    Z.abs (k f * (srv t f - srv s f) - k g * (srv t g - srv s g)) <= (k f + k g) * U.
  Proof.
    intros H Hf Hg Run. pose proof (run_ends _ _ _ _ Run) as [[Qf Qg] [Qf' Qg']].
    pose proof (inv_run _ _ _ H Run) as H'.
    pose proof (service_waits (fun s => Q s f = true /\ Q s g = true) f s t ltac:(intros ? []; auto) Run).
    pose proof (service_waits (fun s => Q s f = true /\ Q s g = true) g s t ltac:(intros ? []; auto) Run).
    pose proof (charges_gap s f g H Hf Hg Qg). pose proof (charges_gap s g f H Hg Hf Qf).
    pose proof (charges_gap t f g H' Hf Hg Qg'). pose proof (charges_gap t g f H' Hg Hf Qf'). lia.
  Qed.

  (** T3: any client against one that waits all through a window. *)
  Lemma charges_any_client s t f g : inv s -> (f < N)%nat -> (g < N)%nat -> run step (fun s => Q s f = true) s t ->
    k g * (srv t g - srv s g) - k f * (srv t f - srv s f) <= (k g + Z.max (k f) (k g)) * U.
  Proof.
    intros H Hf Hg Run. pose proof (run_ends _ _ _ _ Run) as [Qf Qf']. pose proof (inv_run _ _ _ H Run) as H'.
    pose proof (k_pos f). pose proof (k_pos g).
    destruct (Nat.eq_dec f g) as [->|E]; [rewrite Z.sub_diag; apply Z.mul_nonneg_nonneg; lia|].
    pose proof (service_nonneg _ _ _ f Run) as F.
    pose proof (service_waits (fun s => Q s f = true) f s t ltac:(auto) Run) as Wf.
    pose proof (k_mono f 0 (srv t f - srv s f) ltac:(lia)) as F'.
    assert (Rg : k g * R s g <= k g * U).
    { apply k_mono. pose proof (one_fits s g H Hg). pose proof (J1 _ H). lia. }
    assert (U <= Z.max (k f) (k g) * U).
    { rewrite <- (Z.mul_1_l U) at 1. apply Z.mul_le_mono_nonneg_r; lia. }
    assert (S : sigma s g <= k g * U) by (unfold sigma; lia).
    destruct (others _ g s t H Hg Run) as [(_ & B & _)|B].
    - pose proof (k_mono g (srv t g - srv s g) (R s g) ltac:(pose proof (J0 _ H' g); lia)).
      rewrite Z.mul_add_distr_r. lia.
    - pose proof (J5 _ H f g Hf Hg E) as P. pose proof (J3 _ H f Hf) as Pf.
      pose proof (charges_gap t g f H' Hg Hf Qf') as G.
      pose proof (k_mono f 0 (R s f) (J0 _ H f)).
      assert (sigma s g - room s f <= (Z.max (k f) (k g) - k f) * U).
      { destruct (Z.le_gt_cases (k g) (k f)) as [K|K].
        - rewrite Z.min_r, Z.max_l, Z.sub_diag in * by lia. apply (Z.mul_le_mono_pos_l _ _ (k g)) in P; lia.
        - rewrite Z.min_l, Z.max_r in * by lia. apply (Z.mul_le_mono_pos_l _ _ (k g)); [lia|].
          assert ((k g - k f) * sigma s g <= (k g - k f) * (k g * U)) by (apply Z.mul_le_mono_nonneg_l; lia). lia. }
      unfold room in *. lia.
  Qed.
End Charges.

(** * Tokens *)

Record tokens := { core : state; w : nat -> Z; r : nat -> Z; m : nat -> Z }.

Definition empty : tokens := {| core := zero; w := fun _ => 0; r := fun _ => 0; m := fun _ => 0 |}.

(** Of client i, w the prompt tokens admitted and not yet charged, r the output tokens reserved and not yet decoded, m
    the tokens reserved.  Prompts are charged whole on admission, or as they are prefilled.  A counter is in units of
    1/P of service over weight: k i = P / weight i. *)
Section Tokens.
  Variable N : nat.
  Variables wp wq : Z.
  Hypothesis wp_nonneg : 0 <= wp.
  Hypothesis wq_nonneg : 0 <= wq.
  Variable whole : bool.
  Variables weight k : nat -> Z.
  Variable P : Z.
  Hypothesis weight_pos : forall i, 0 < weight i.
  Hypothesis k_pos : forall i, 0 < k i.
  Hypothesis scale : forall i, (i < N)%nat -> k i * weight i = P.
  Variable fits : tokens -> Z -> Z -> Prop.  (** the rule of admission, given the lengths of prompt and output *)
  Variable raise : Z -> Z -> Z.
  Hypothesis raised : forall a x, x <= raise a x <= Z.max a x.

  Definition at_once (inp : Z) : Z := if whole then inp else 0.

  Definition t_arrived (s : tokens) (u : nat) (x : Z) : tokens :=
    {| core := arrived raise (core s) u x; w := w s; r := r s; m := m s |}.
  Definition t_admitted (s : tokens) (a : nat) (inp out : Z) (stays : bool) : tokens :=
    {| core := admitted k (core s) a (wp * at_once inp) (wp * (inp - at_once inp) + wq * out) stays;
       w := set (w s) a (w s a + (inp - at_once inp)); r := set (r s) a (r s a + out);
       m := set (m s) a (m s a + (inp + out)) |}.
  Definition t_prefilled (s : tokens) (d : nat -> Z) : tokens :=
    {| core := charged k (core s) (fun i => wp * d i); w := fun i => w s i - d i; r := r s; m := m s |}.
  Definition t_decoded (s : tokens) (d : nat -> Z) : tokens :=
    {| core := charged k (core s) (fun i => wq * d i); w := w s; r := fun i => r s i - d i; m := m s |}.
  Definition t_finished (s : tokens) (a : nat) (x y : Z) : tokens :=
    {| core := released (core s) a (wq * y); w := w s; r := set (r s) a (r s a - y);
       m := set (m s) a (m s a - (x + y)) |}.

  Inductive tstep (s : tokens) : tokens -> Prop :=
  | t_arrive u x : (u < N)%nat -> Q (core s) u = false -> lifts N (core s) x -> tstep s (t_arrived s u x)
  | t_admit a inp out stays : least N (core s) a -> 0 <= inp -> 0 <= out -> fits s inp out ->
      tstep s (t_admitted s a inp out stays)
  | t_prefill d : (forall i, 0 <= d i <= w s i) -> tstep s (t_prefilled s d)
  | t_decode d : (forall i, 0 <= d i <= r s i) -> tstep s (t_decoded s d)
  | t_finish a x y : (a < N)%nat -> 0 <= x -> 0 <= y <= r s a -> w s a + (r s a - y) <= m s a - (x + y) ->
      tstep s (t_finished s a x y).

  Definition reached (s : tokens) : Prop := run tstep (fun _ => True) empty s.

  (** Every bound with the constant U.  Window: a run from s to t; gain: the service in it. *)
  Definition gain (s t : tokens) (i : nat) : Z := srv (core t) i - srv (core s) i.
  Definition waits (i : nat) (s : tokens) : Prop := Q (core s) i = true.

  Record fair_pairs (U : Z) : Prop := {
    (** L1: of clients that wait, one is ahead by at most U over its weight. *)
    gap : forall s f g, reached s -> (f < N)%nat -> (g < N)%nat -> waits f s -> waits g s ->
      weight f * (c (core s) f - c (core s) g) <= P * U;
    (** T1: f and g wait all through a window: |W_f/f_f - W_g/f_g| <= U/f_f + U/f_g. *)
    two_backlogged : forall s t f g, reached s -> (f < N)%nat -> (g < N)%nat ->
      run tstep (fun s => waits f s /\ waits g s) s t ->
      Z.abs (weight g * gain s t f - weight f * gain s t g) <= (weight f + weight g) * U
  }.

  Record fair (U : Z) : Prop := {
    pairs : fair_pairs U;
    (** T3: f waits all through a window, g is any client: W_g/f_g - W_f/f_f <= U/f_g + U/min(f_f, f_g). *)
    any_client : forall s t f g, reached s -> (f < N)%nat -> (g < N)%nat -> run tstep (waits f) s t ->
      weight f * gain s t g - weight g * gain s t f <= (weight f + Z.max (weight f) (weight g)) * U;
    (** T4: while f waits and gets nothing, any client g gets at most  W_g/f_g <= U/f_g + U/min(f_f, f_g). *)
    dispatch : forall s t f g, reached s -> (f < N)%nat -> (g < N)%nat -> run tstep (waits f) s t -> gain s t f = 0 ->
      weight f * gain s t g <= (weight f + Z.max (weight f) (weight g)) * U
  }.

  (** What holds under every rule of admission. *)
  Record kept (s : tokens) : Prop := {
    K0 : forall i, 0 <= w s i /\ 0 <= r s i /\ w s i + r s i <= m s i;
    K1 : whole = true -> forall i, w s i = 0;
    K2 : forall i, R (core s) i = wp * w s i + wq * r s i
  }.

  (** The rule lets no admission make all charges, made at it and committed, more than U. *)
  Definition within (U : Z) : Prop := forall s inp out, kept s -> 0 <= inp -> 0 <= out -> fits s inp out ->
    wp * (sum N (w s) + inp) + wq * (sum N (r s) + out) <= U.

  Lemma kept_empty : kept empty.
  Proof. split; cbn; intros; lia. Qed.

  Ltac at_client i a := destruct (Nat.eq_dec i a) as [->|?]; [rewrite ?set_same in *|rewrite ?set_other in * by auto].

  Lemma kept_step s t : kept s -> tstep s t -> kept t.
  Proof.
    intros H St. destruct St as [u x|a inp out stays _ Hin Hout _|d D|d D|a x y Ha Hx Hy Left].
    - split; cbn; apply H.
    - assert (A : 0 <= inp - at_once inp <= inp) by (unfold at_once; destruct whole; lia).
      split; cbn; try (intros i; pose proof (K0 _ H i); pose proof (K2 _ H i); at_client i a; lia).
      intros E i. pose proof (K1 _ H E i) as Z0. at_client i a; [|exact Z0]. unfold at_once. rewrite E. lia.
    - split; cbn; try (intros i; pose proof (K0 _ H i); pose proof (K2 _ H i); pose proof (D i); lia).
      intros E i. pose proof (K1 _ H E i). pose proof (D i). lia.
    - split; cbn; try (intros i; pose proof (K0 _ H i); pose proof (K2 _ H i); pose proof (D i); lia).
      intros E i. apply (K1 _ H E).
    - split; cbn; try (intros i; pose proof (K0 _ H i); pose proof (K2 _ H i); at_client i a; lia).
      intros E i. apply (K1 _ H E).
  Qed.

  Lemma sum_charges n (R0 a b : nat -> Z) : (forall i, R0 i = wp * a i + wq * b i) ->
    sum n R0 = wp * sum n a + wq * sum n b.
  Proof. intros E. induction n as [|n IH]; cbn; [lia|]. rewrite IH, E. lia. Qed.

  (** The tokens' system is the one of charges. *)
  Lemma step_core U s t : within U -> kept s -> tstep s t -> step N U k raise (core s) (core t).
  Proof.
    intros W H St. destruct St as [u x|a inp out stays Least Hin Hout Fit|d D|d D|a x y Ha Hx Hy Left].
    - apply arrive; auto.
    - assert (A : 0 <= at_once inp <= inp) by (unfold at_once; destruct whole; lia).
      pose proof (W s inp out H Hin Hout Fit). cbn. apply admit; auto.
      + apply Z.mul_nonneg_nonneg; lia.
      + apply Z.add_nonneg_nonneg; apply Z.mul_nonneg_nonneg; lia.
      + rewrite (sum_charges _ _ _ _ (K2 _ H)). lia.
    - apply charge. intros i. rewrite (K2 _ H). pose proof (K0 _ H i). pose proof (D i). split; nia.
    - apply charge. intros i. rewrite (K2 _ H). pose proof (K0 _ H i). pose proof (D i). split; nia.
    - apply release; auto. rewrite (K2 _ H). pose proof (K0 _ H a). split; nia.
  Qed.

  Lemma kept_run (G : tokens -> Prop) s t : kept s -> run tstep G s t -> kept t.
  Proof. intros H. induction 1 as [|t u _ Ht St _]; eauto using kept_step. Qed.

  Lemma run_core U (G : state -> Prop) s t : within U -> kept s -> run tstep (fun s => G (core s)) s t ->
    run (step N U k raise) G (core s) (core t).
  Proof.
    intros W H. induction 1 as [|t u Run IH St Gu]; [apply here; auto|].
    eapply further; [exact IH| |exact Gu]. apply (step_core U); auto. eapply kept_run; eauto.
  Qed.

  Lemma reached_inv U s : 0 <= U -> within U -> reached s -> kept s /\ inv N U k (core s).
  Proof.
    intros U0 W Re. split; [apply (kept_run _ _ _ kept_empty Re)|].
    eapply inv_run; [exact k_pos|exact raised|apply (inv_zero N U k U0 k_pos)|].
    apply (run_core U (fun _ => True) empty s W kept_empty). exact Re.
  Qed.

  (** Division by a common unit: k and the weights are inverse to each other. *)
  Lemma unscale f g x y z : (f < N)%nat -> (g < N)%nat -> k f * x - k g * y <= (k f + k g) * z ->
    weight g * x - weight f * y <= (weight f + weight g) * z.
  Proof.
    intros Hf Hg H. pose proof (scale f Hf) as Ef. pose proof (scale g Hg) as Eg.
    pose proof (k_pos f). pose proof (weight_pos f). pose proof (weight_pos g).
    apply (Z.mul_le_mono_pos_l _ _ P); [nia|].
    assert (E : weight f * weight g * (k f * x - k g * y) <= weight f * weight g * ((k f + k g) * z)) by
      (apply Z.mul_le_mono_nonneg_l; nia).
    replace (weight f * weight g * (k f * x - k g * y)) with
      (k f * weight f * weight g * x - k g * weight g * weight f * y) in E by ring.
    replace (weight f * weight g * ((k f + k g) * z)) with
      (k f * weight f * weight g * z + k g * weight g * weight f * z) in E by ring.
    rewrite Ef, Eg in E. lia.
  Qed.

  (** Any rule of admission with the constant U, and any lift that raises to x what is below it: the service over weight
      of waiting clients differs by at most U/f_f + U/f_g in any window.  Assumptions: prices wp, wq >= 0, positive
      weights, no preemption.  Published for weights 1 and reservation, with another constant; our derivation. *)
  Theorem vtc_waiting U : 0 <= U -> within U -> fair_pairs U.
  Proof.
    intros U0 W. split.
    - intros s f g Re Hf Hg _ Wg. pose proof (reached_inv U s U0 W Re) as [_ I].
      pose proof (charges_gap N U k k_pos _ f g I Hf Hg Wg) as B. pose proof (scale f Hf) as E.
      apply (Z.mul_le_mono_nonneg_l _ _ (weight f)) in B; [|pose proof (weight_pos f); lia].
      replace (weight f * (k f * U)) with (k f * weight f * U) in B by ring. rewrite E in B. exact B.
    - intros s t f g Re Hf Hg Run. pose proof (reached_inv U s U0 W Re) as [H I].
      pose proof (charges_two_backlogged N U k k_pos raise raised _ _ f g I Hf Hg
        (run_core U (fun s => Q s f = true /\ Q s g = true) s t W H Run)) as B.
      fold (gain s t f) (gain s t g) in B.
      pose proof (unscale f g (gain s t f) (gain s t g) U Hf Hg).
      pose proof (unscale g f (gain s t g) (gain s t f) U Hg Hf). lia.
  Qed.

  Hypothesis kept_debt : forall a x, a <= raise a x.

  (** If lifts never lower a counter: every bound.  Published with factors 1, 2, 4 (recalled); our derivation. *)
  Theorem vtc_any_admission U : 0 <= U -> within U -> fair U.
  Proof.
    intros U0 W.
    assert (T3 : forall s t f g, reached s -> (f < N)%nat -> (g < N)%nat -> run tstep (waits f) s t ->
      weight f * gain s t g - weight g * gain s t f <= (weight f + Z.max (weight f) (weight g)) * U).
    { intros s t f g Re Hf Hg Run. pose proof (reached_inv U s U0 W Re) as [H I].
      pose proof (charges_any_client N U k U0 k_pos raise raised kept_debt _ _ f g I Hf Hg
        (run_core U (fun s => Q s f = true) s t W H Run)) as B. fold (gain s t f) (gain s t g) in B.
      pose proof (scale f Hf) as Ef. pose proof (scale g Hg) as Eg.
      pose proof (k_pos f). pose proof (k_pos g). pose proof (weight_pos f). pose proof (weight_pos g).
      destruct (Z.le_gt_cases (k f) (k g)) as [K|K].
      - assert (weight g <= weight f) by nia. rewrite Z.max_r in B by lia. rewrite Z.max_l by lia.
        apply (Z.mul_le_mono_pos_l _ _ (k g)); [lia|].
        apply (Z.mul_le_mono_nonneg_l _ _ (weight f)) in B; [|lia].
        replace (k g * (weight f * gain s t g - weight g * gain s t f)) with
          (k g * weight f * gain s t g - k g * weight g * gain s t f) by ring.
        rewrite Eg, <- Ef. lia.
      - assert (weight f <= weight g) by nia. rewrite Z.max_l in B by lia. rewrite Z.max_r by lia.
        pose proof (unscale g f (gain s t g) (gain s t f) U Hg Hf). lia. }
    split; [apply vtc_waiting; auto|exact T3|].
    intros s t f g Re Hf Hg Run E. pose proof (T3 s t f g Re Hf Hg Run) as B. rewrite E in B. lia.
  Qed.
End Tokens.

Arguments gap {N wp wq whole weight k P fits raise U}.
Arguments two_backlogged {N wp wq whole weight k P fits raise U}.
Arguments pairs {N wp wq whole weight k P fits raise U}.
Arguments any_client {N wp wq whole weight k P fits raise U}.
Arguments dispatch {N wp wq whole weight k P fits raise U}.

(** Any positive whole weights will do: there is a common unit. *)
Lemma unit_exists n (weight : nat -> Z) : (forall i, 0 < weight i) ->
  exists P k, 0 < P /\ (forall i, 0 < k i) /\ forall i, (i < n)%nat -> k i * weight i = P.
Proof.
  intros W. induction n as [|n (P & k & HP & Hk & E)].
  - exists 1, (fun _ => 1). repeat split; intros; lia.
  - exists (P * weight n), (set (fun i => k i * weight n) n P). pose proof (W n). repeat split; [nia| |].
    + intros i. pose proof (Hk i). destruct (Nat.eq_dec i n) as [->|?]; [rewrite set_same; lia|].
      rewrite set_other by auto. nia.
    + intros i Hi. destruct (Nat.eq_dec i n) as [->|?]; [rewrite set_same; lia|].
      rewrite set_other by auto. rewrite <- (E i) by lia. ring.
Qed.

(** * Rules of admission *)

Lemma max_raised a x : x <= Z.max a x <= Z.max a x.
Proof. lia. Qed.

Lemma max_keeps a x : a <= Z.max a x.
Proof. lia. Qed.

Section Rules.
  Variable N : nat.
  Variables wp wq : Z.
  Hypothesis wp_nonneg : 0 <= wp.
  Hypothesis wq_nonneg : 0 <= wq.
  Variables weight k : nat -> Z.
  Variable P : Z.
  Hypothesis weight_pos : forall i, 0 < weight i.
  Hypothesis k_pos : forall i, 0 < k i.
  Hypothesis scale : forall i, (i < N)%nat -> k i * weight i = P.

  (** Prompts of at most L tokens, and what is reserved fits in a memory of M tokens. *)
  Definition reserve (M L : Z) (s : tokens) (inp out : Z) : Prop := inp <= L /\ sum N (m s) + inp + out <= M.

  (** No memory: only, with the request, the charge that is still to come is at most U. *)
  Definition bounded (U : Z) (s : tokens) (inp out : Z) : Prop :=
    wp * (sum N (w s) + inp) + wq * (sum N (r s) + out) <= U.

  (** U*, larger than the published max(wp L, wq M) if wp > wq. *)
  Definition Ustar (M L : Z) : Z := wq * M + Z.max 0 (wp - wq) * L.

  Lemma sum_held whole s : kept wp wq whole s ->
    0 <= sum N (w s) /\ 0 <= sum N (r s) /\ sum N (w s) + sum N (r s) <= sum N (m s)
    /\ (whole = true -> sum N (w s) = 0).
  Proof.
    intros H. clear -H. induction N as [|n IH]; cbn; [lia|]. pose proof (K0 _ _ _ _ H n).
    destruct IH as (? & ? & ? & W0). repeat split; try lia.
    intros E. pose proof (K1 _ _ _ _ H E n). pose proof (W0 E). lia.
  Qed.

  Lemma reserve_within M L : 0 <= L <= M -> within N wp wq true (reserve M L) (Ustar M L).
  Proof.
    intros Len s inp out H Hin Hout [Short Fit]. unfold Ustar. destruct (sum_held true s H) as (_ & R0 & Le & W0).
    rewrite W0 in * by reflexivity.
    assert (wq * (sum N (r s) + out) <= wq * (M - inp)) by (apply Z.mul_le_mono_nonneg_l; lia).
    assert ((wp - wq) * inp <= Z.max 0 (wp - wq) * inp) by (apply Z.mul_le_mono_nonneg_r; lia).
    assert (Z.max 0 (wp - wq) * inp <= Z.max 0 (wp - wq) * L) by (apply Z.mul_le_mono_nonneg_l; lia). lia.
  Qed.

  (** Whole prompts and reservation: U*.  Published with another constant; our derivation. *)
  Theorem vtc_reserved M L : 0 <= L <= M -> fair N wp wq true weight k P (reserve M L) Z.max (Ustar M L).
  Proof.
    intros Len. apply vtc_any_admission; auto using max_raised, max_keeps, reserve_within. unfold Ustar.
    apply Z.add_nonneg_nonneg; apply Z.mul_nonneg_nonneg; lia.
  Qed.

  (** Where a lift may lower a counter, the bounds between waiting clients hold still. *)
  Theorem vtc_lowered M L : 0 <= L <= M -> fair_pairs N wp wq true weight k P (reserve M L) (fun _ x => x) (Ustar M L).
  Proof.
    intros Len. apply vtc_waiting; auto using reserve_within; [lia|]. unfold Ustar.
    apply Z.add_nonneg_nonneg; apply Z.mul_nonneg_nonneg; lia.
  Qed.

  (** Prompts charged chunk by chunk, and reservation: max(wp, wq) M, for prompts of any length.  Our derivation. *)
  Theorem vtc_chunked M L : 0 <= M -> fair N wp wq false weight k P (reserve M L) Z.max (Z.max wp wq * M).
  Proof.
    intros Pos. apply vtc_any_admission; auto using max_raised, max_keeps; [apply Z.mul_nonneg_nonneg; lia|].
    intros s inp out H Hin Hout [_ Fit]. destruct (sum_held false s H) as (W0 & R0 & Le & _).
    assert (wp * (sum N (w s) + inp) <= Z.max wp wq * (sum N (w s) + inp)) by (apply Z.mul_le_mono_nonneg_r; lia).
    assert (wq * (sum N (r s) + out) <= Z.max wp wq * (sum N (r s) + out)) by (apply Z.mul_le_mono_nonneg_r; lia).
    assert (Z.max wp wq * (sum N (w s) + inp + (sum N (r s) + out)) <= Z.max wp wq * M)
      by (apply Z.mul_le_mono_nonneg_l; lia). lia.
  Qed.

  (** No memory, a bound U_A on what an admission makes charged and committed.  Our derivation. *)
  Theorem vtc_bounded whole U : 0 <= U -> fair N wp wq whole weight k P (bounded U) Z.max U.
  Proof. intros. apply vtc_any_admission; auto using max_raised, max_keeps. intros s inp out _ _ _ F. exact F. Qed.
End Rules.

(** * Equal weights, whole prompts, reservation *)

Section Equal.
  Variable N : nat.
  Variables M L wp wq : Z.
  Hypothesis wp_nonneg : 0 <= wp.
  Hypothesis wq_nonneg : 0 <= wq.
  Hypothesis lengths : 0 <= L <= M.

  Definition plain : tokens -> tokens -> Prop := tstep N wp wq true (fun _ => 1) (reserve N M L) Z.max.
  Definition plain_reached (s : tokens) : Prop := run plain (fun _ => True) empty s.

  Lemma plain_fair : fair N wp wq true (fun _ => 1) (fun _ => 1) 1 (reserve N M L) Z.max (Ustar wp wq M L).
  Proof. apply vtc_reserved; auto; intros; lia. Qed.

  (** L1: counters of waiting clients differ by at most U*.  Published with another constant (recalled). *)
  Corollary vtc_gap s f g : plain_reached s -> (f < N)%nat -> (g < N)%nat -> waits f s -> waits g s ->
    c (core s) f - c (core s) g <= Ustar wp wq M L.
  Proof. intros Re Hf Hg Wf Wg. pose proof (gap (pairs plain_fair) s f g Re Hf Hg Wf Wg) as B. cbv beta in B. lia. Qed.

  (** T1: clients that wait all through a window.  Published with another constant. *)
  Corollary vtc_2U s t f g : plain_reached s -> (f < N)%nat -> (g < N)%nat ->
    run plain (fun s => waits f s /\ waits g s) s t -> Z.abs (gain s t f - gain s t g) <= 2 * Ustar wp wq M L.
  Proof.
    intros Re Hf Hg Run. pose proof (two_backlogged (pairs plain_fair) s t f g Re Hf Hg Run) as B.
    cbv beta in B. lia.
  Qed.

  (** T3: any client g against one that waits all through a window.  Published with factor 4 (recalled). *)
  Corollary vtc_any_2U s t f g : plain_reached s -> (f < N)%nat -> (g < N)%nat -> run plain (waits f) s t ->
    gain s t g - gain s t f <= 2 * Ustar wp wq M L.
  Proof. intros Re Hf Hg Run. pose proof (any_client plain_fair s t f g Re Hf Hg Run) as B. cbv beta in B. lia. Qed.

  (** T4: while f waits and gets nothing, any client g gets at most 2U*.  Published as 2(n - 1)U for all together
      (recalled). *)
  Corollary vtc_dispatch s t f g : plain_reached s -> (f < N)%nat -> (g < N)%nat -> run plain (waits f) s t ->
    gain s t f = 0 -> gain s t g <= 2 * Ustar wp wq M L.
  Proof. intros Re Hf Hg Run E. pose proof (dispatch plain_fair s t f g Re Hf Hg Run E) as B. cbv beta in B. lia. Qed.
End Equal.

(** * Tightness *)

Lemma run_trans {A} step P (a b d : A) : run step P a b -> run step P b d -> run step P a d.
Proof. intros H. induction 1; [exact H|]. eapply further; eauto. Qed.

(** Two clients whose requests of x and M - x tokens fill the memory: 0 is served once, the window opens, and 1 is
    served twice, since ties are free. *)
Section Tight.
  Variables M L wp wq x : Z.
  Hypothesis lengths : 0 <= x <= L /\ L <= M.
  Hypothesis wp_nonneg : 0 <= wp.
  Hypothesis wq_nonneg : 0 <= wq.

  Let two := plain 2 M L wp wq.
  Let cost := wp * x + wq * (M - x).
  Definition both (s : tokens) : Prop := waits 0 s /\ waits 1 s.
  Definition unused (s : tokens) : Prop := forall i, w s i = 0 /\ r s i = 0 /\ m s i = 0.
  Definition served (u : nat) (s : tokens) : tokens :=
    t_finished wq (t_decoded wq (fun _ => 1) (t_admitted wp wq true (fun _ => 1) s u x (M - x) true)
      (set (fun _ => 0) u (M - x))) u M 0.

  Lemma serve s u : both s -> unused s -> (u < 2)%nat ->
    c (core s) u <= c (core s) 0%nat -> c (core s) u <= c (core s) 1%nat ->
    run two both s (served u s) /\ both (served u s) /\ unused (served u s)
    /\ (forall i, c (core (served u s)) i = c (core s) i + set (fun _ => 0) u cost i)
    /\ (forall i, srv (core (served u s)) i = srv (core s) i + set (fun _ => 0) u cost i).
  Proof.
    intros [Q0 Q1] Free Hu L0 L1. unfold waits in *.
    assert (Q2 : forall i, (i < 2)%nat -> set (Q (core s)) u true i = true).
    { intros i Hi. unfold set. destruct (Nat.eqb i u); [reflexivity|]. destruct i as [|[|i]]; auto; lia. }
    assert (B : both (served u s)) by (split; apply Q2; lia).
    split; [|split; [exact B|split; [|split]]].
    - eapply further; [|apply t_finish|exact B].
      eapply further; [|apply t_decode|split; apply Q2; lia].
      eapply further; [apply here; split; assumption|apply t_admit|split; apply Q2; lia].
      + repeat split; [exact Hu|destruct u as [|[|u]]; auto; lia|].
        intros [|[|i]] Hi _; auto; lia.
      + lia.
      + lia.
      + split; [lia|]. cbn. pose proof (Free 0%nat). pose proof (Free 1%nat). lia.
      + intros i. cbn. pose proof (Free i). unfold set. destruct (Nat.eqb i u) eqn:E; [|lia].
        apply Nat.eqb_eq in E. subst i. lia.
      + exact Hu.
      + lia.
      + cbn. rewrite !set_same. pose proof (Free u). lia.
      + cbn. rewrite !set_same. unfold at_once. pose proof (Free u). lia.
    - intros i. cbn. pose proof (Free i). pose proof (Free u).
      destruct (Nat.eq_dec i u) as [->|E]; [rewrite !set_same|rewrite !set_other by auto]; unfold at_once; lia.
    - intros i. cbn -[Z.mul]. unfold set, at_once. destruct (Nat.eqb i u) eqn:E; [|lia].
      apply Nat.eqb_eq in E. subst i. unfold cost. lia.
    - intros i. cbn -[Z.mul]. unfold set, at_once. destruct (Nat.eqb i u) eqn:E; [|lia].
      apply Nat.eqb_eq in E. subst i. unfold cost. lia.
  Qed.

  Definition begins : tokens := t_arrived Z.max (t_arrived Z.max empty 0 0) 1 0.
  Definition opens : tokens := served 0 begins.
  Definition ends : tokens := served 1 (served 1 opens).

  (** The difference of service is twice the cost of a request that fills the memory. *)
  Theorem vtc_tight : plain_reached 2 M L wp wq opens /\ run two both opens ends
    /\ gain opens ends 1 - gain opens ends 0 = 2 * cost.
  Proof.
    destruct (serve begins 0) as (R1 & B1 & F1 & C1 & S1);
      [split; reflexivity|intros [|[|i]]; repeat split|lia|cbn; lia|cbn; lia|].
    fold opens in *. pose proof (C1 0%nat) as C10. pose proof (C1 1%nat) as C11.
    assert (0 <= cost) by (unfold cost; apply Z.add_nonneg_nonneg; apply Z.mul_nonneg_nonneg; lia).
    change (c (core begins) 0%nat) with 0 in C10. change (c (core begins) 1%nat) with 0 in C11.
    change (set (fun _ => 0) 0%nat cost 0%nat) with cost in C10.
    change (set (fun _ => 0) 0%nat cost 1%nat) with 0 in C11.
    destruct (serve opens 1 B1 F1) as (R2 & B2 & F2 & C2 & S2); [lia|lia|lia|].
    pose proof (C2 0%nat) as C20. pose proof (C2 1%nat) as C21.
    change (set (fun _ => 0) 1%nat cost 1%nat) with cost in C21.
    change (set (fun _ => 0) 1%nat cost 0%nat) with 0 in C20.
    destruct (serve (served 1 opens) 1 B2 F2) as (R3 & B3 & F3 & C3 & S3); [lia|lia|lia|]. fold ends in *.
    split; [|split].
    - assert (Run : run two (fun _ => True) begins opens).
      { clear -R1. induction R1; [apply here; exact I|eapply further; eauto]. }
      apply (run_trans _ _ _ begins); [|exact Run].
      eapply further; [eapply further; [apply here; exact I|apply t_arrive|exact I]|apply t_arrive|exact I];
        try reflexivity; try lia.
      + right. split; reflexivity.
      + left. split; [exists 0%nat; repeat split; lia|]. intros [|[|i]] Hi; cbn; intros; try lia; discriminate.
    - eapply run_trans; eassumption.
    - unfold gain. rewrite !S3, !S2.
      change (set (fun _ => 0) 1%nat cost 1%nat) with cost. change (set (fun _ => 0) 1%nat cost 0%nat) with 0. lia.
  Qed.
End Tight.

(** 2U* is attained, for all lengths and prices: by prompts of L tokens if wp >= wq, and by outputs alone if wp <= wq.
    Our derivation. *)
Corollary vtc_tight_2U M L wp wq : 0 <= L <= M -> 0 <= wp -> 0 <= wq ->
  exists s t, plain_reached 2 M L wp wq s /\ run (plain 2 M L wp wq) both s t
    /\ gain s t 1 - gain s t 0 = 2 * Ustar wp wq M L.
Proof.
  intros Len Wp Wq. unfold Ustar. destruct (Z.le_gt_cases wp wq) as [H|H].
  - exists (opens M wp wq 0), (ends M wp wq 0).
    destruct (vtc_tight M L wp wq 0 ltac:(lia) Wp Wq) as (A & B & C). repeat split; auto. lia.
  - exists (opens M wp wq L), (ends M wp wq L).
    destruct (vtc_tight M L wp wq L ltac:(lia) Wp Wq) as (A & B & C). repeat split; auto. lia.
Qed.

Print Assumptions charges_gap.
Print Assumptions charges_two_backlogged.
Print Assumptions charges_any_client.
Print Assumptions vtc_waiting.
Print Assumptions vtc_any_admission.
Print Assumptions unit_exists.
Print Assumptions vtc_reserved.
Print Assumptions vtc_lowered.
Print Assumptions vtc_chunked.
Print Assumptions vtc_bounded.
Print Assumptions vtc_gap.
Print Assumptions vtc_2U.
Print Assumptions vtc_any_2U.
Print Assumptions vtc_dispatch.
Print Assumptions vtc_tight.
Print Assumptions vtc_tight_2U.
