(** VTC, the virtual token counter, for any number of clients: counters of waiting clients differ by at most U*, the
    service of two waiting clients by at most 2U* over any window, and nobody gets more than 2U* beyond one that waits.

    Notation: of client i, c the counter, r the output tokens reserved and not yet decoded, m the tokens reserved, srv
    the service so far, Q whether a request of it waits; v the floor, which no scheduler reads; last the last client to
    leave Q.  A token of input costs wp, one of output wq; the memory holds M tokens, prompts have at most L.

    Source: Sheng et al., OSDI 2024, arXiv 2401.00588 (algorithm; bounds with max(wp L, wq M) and 1, 2, 4, recalled);
    the constants here, the floor and the proofs are our derivation.  The same system in Python: queueing/models/vtc.py. *)

From Coq Require Import ZArith Lia Arith Bool.
Local Open Scope Z_scope.

(** * Functions altered at one client, and finite sums *)

Definition set {A : Type} (f : nat -> A) (a : nat) (x : A) : nat -> A := fun i => if Nat.eqb i a then x else f i.

Lemma set_same {A} (f : nat -> A) a x : set f a x a = x.
Proof. unfold set. now rewrite Nat.eqb_refl. Qed.

Lemma set_other {A} (f : nat -> A) a x i : i <> a -> set f a x i = f i.
Proof. unfold set. intros H. apply Nat.eqb_neq in H. now rewrite H. Qed.

Fixpoint sum (n : nat) (f : nat -> Z) : Z := match n with O => 0 | S k => sum k f + f k end.

Lemma sum_set_beyond n f a x : (n <= a)%nat -> sum n (set f a x) = sum n f.
Proof.
  induction n as [|n IH]; intros H; cbn; [reflexivity|]. rewrite IH by lia. rewrite set_other by lia. reflexivity.
Qed.

Lemma sum_set n f a x : (a < n)%nat -> sum n (set f a x) = sum n f - f a + x.
Proof.
  induction n as [|n IH]; intros H; [lia|]. cbn. destruct (Nat.eq_dec n a) as [->|E].
  - rewrite sum_set_beyond, set_same by lia. lia.
  - rewrite IH, set_other by lia. lia.
Qed.

Lemma sum_nonneg n f : (forall i, (i < n)%nat -> 0 <= f i) -> 0 <= sum n f.
Proof.
  induction n as [|n IH]; intros H; cbn; [lia|]. pose proof (H n ltac:(lia)).
  assert (0 <= sum n f) by (apply IH; intros; apply H; lia). lia.
Qed.

Lemma one_in_sum n f a : (forall i, (i < n)%nat -> 0 <= f i) -> (a < n)%nat -> f a <= sum n f.
Proof.
  intros P H. assert (0 <= sum n (set f a 0)).
  { apply sum_nonneg. intros i Hi. unfold set. destruct (Nat.eqb i a); [lia|auto]. }
  rewrite sum_set in * by exact H. lia.
Qed.

Lemma two_in_sum n f a b : (forall i, (i < n)%nat -> 0 <= f i) -> (a < n)%nat -> (b < n)%nat -> a <> b ->
  f a + f b <= sum n f.
Proof.
  intros P Ha Hb E. assert (set f a 0 b <= sum n (set f a 0)).
  { apply one_in_sum; [|exact Hb]. intros i Hi. unfold set. destruct (Nat.eqb i a); [lia|auto]. }
  rewrite sum_set, set_other in * by auto. lia.
Qed.

(** * The transition system *)

Section Vtc.
  Variable N : nat.
  Variables M L wp wq : Z.
  Hypothesis wq_pos : 0 < wq.
  Hypothesis wp_nonneg : 0 <= wp.
  Hypothesis lengths : 0 <= L <= M.

  Definition U : Z := wq * M + Z.max 0 (wp - wq) * L.

  Record state := { c : nat -> Z; r : nat -> Z; m : nat -> Z; srv : nat -> Z; Q : nat -> bool; v : Z; last : nat }.

  (** The counter to which a client that comes back is lifted: the least in Q, or that of the last to leave it. *)
  Definition lifts (s : state) (x : Z) : Prop :=
    ((exists k, (k < N)%nat /\ Q s k = true /\ x = c s k) /\ forall i, (i < N)%nat -> Q s i = true -> x <= c s i)
    \/ ((forall i, (i < N)%nat -> Q s i = false) /\ x = c s (last s)).

  (** What each event leaves: u comes back and is lifted to x;  a is admitted with inp and out tokens, and stays in Q if
      more of it waits;  every client i decodes d i tokens;  of a, x tokens leave the memory, and y that it need not
      decode. *)
  Definition arrived (s : state) (u : nat) (x : Z) : state :=
    {| c := set (c s) u (Z.max (c s u) x); r := r s; m := m s; srv := srv s; Q := set (Q s) u true; v := x;
       last := last s |}.
  Definition admitted (s : state) (a : nat) (inp out : Z) (stays : bool) : state :=
    {| c := set (c s) a (c s a + wp * inp); r := set (r s) a (r s a + out); m := set (m s) a (m s a + (inp + out));
       srv := set (srv s) a (srv s a + wp * inp); Q := set (Q s) a stays; v := c s a;
       last := if stays then last s else a |}.
  Definition decoded (s : state) (d : nat -> Z) : state :=
    {| c := fun i => c s i + wq * d i; r := fun i => r s i - d i; m := m s; srv := fun i => srv s i + wq * d i;
       Q := Q s; v := v s; last := last s |}.
  Definition finished (s : state) (a : nat) (x y : Z) : state :=
    {| c := c s; r := set (r s) a (r s a - y); m := set (m s) a (m s a - (x + y)); srv := srv s; Q := Q s; v := v s;
       last := last s |}.

  Inductive step (s : state) : state -> Prop :=
  | arrive u x : (u < N)%nat -> Q s u = false -> lifts s x ->
      step s (arrived s u x)
  | admit a inp out stays : (a < N)%nat -> Q s a = true ->
      (forall i, (i < N)%nat -> Q s i = true -> c s a <= c s i) ->
      0 <= inp <= L -> 0 <= out -> sum N (m s) + inp + out <= M ->
      step s (admitted s a inp out stays)
  | decode d : (forall i, 0 <= d i <= r s i) ->
      step s (decoded s d)
  | finish a x y : (a < N)%nat -> 0 <= x -> 0 <= y <= r s a -> r s a - y <= m s a - (x + y) ->
      step s (finished s a x y).

  (** Nobody has asked for anything yet. *)
  Definition start : state :=
    {| c := fun _ => 0; r := fun _ => 0; m := fun _ => 0; srv := fun _ => 0; Q := fun _ => false; v := 0; last := 0 |}.

  (** Runs all of whose states satisfy P. *)
  Inductive run (P : state -> Prop) (s : state) : state -> Prop :=
  | here : P s -> run P s s
  | further t u : run P s t -> step t u -> P u -> run P s u.

  Definition reached (s : state) : Prop := run (fun _ => True) start s.

  (** * The invariants *)

  Definition sigma (s : state) (g : nat) : Z := Z.min (wq * r s g) (Z.max 0 (v s - c s g)).

  Record inv (s : state) : Prop := {
    I0 : forall i, 0 <= r s i <= m s i;
    I1 : sum N (m s) <= M;
    I2 : forall i, (i < N)%nat -> Q s i = true -> v s <= c s i;
    I3 : forall i, (i < N)%nat -> c s i + wq * r s i <= v s + U;
    I4 : (forall i, (i < N)%nat -> Q s i = false) -> v s <= c s (last s);
    I5 : forall f g, (f < N)%nat -> (g < N)%nat -> f <> g -> c s f + wq * r s f + sigma s g <= v s + U
  }.

  Lemma spend n k : 0 <= n <= k -> wq * n <= wq * k.
  Proof. intros H. apply Z.mul_le_mono_nonneg_l; lia. Qed.

  (** What an admission commits is at most U, if what it reserves fits. *)
  Lemma price inp n : 0 <= inp <= L -> 0 <= n <= M - inp -> wp * inp + wq * n <= U.
  Proof.
    intros H1 H2. pose proof (spend n (M - inp) H2) as P. unfold U.
    assert (wp * inp <= wq * inp + Z.max 0 (wp - wq) * L).
    { destruct (Z.le_gt_cases wp wq) as [E|E].
      - assert (wp * inp <= wq * inp) by (apply Z.mul_le_mono_nonneg_r; lia).
        assert (0 <= Z.max 0 (wp - wq) * L) by (apply Z.mul_nonneg_nonneg; lia). lia.
      - replace (Z.max 0 (wp - wq)) with (wp - wq) by lia.
        assert ((wp - wq) * inp <= (wp - wq) * L) by (apply Z.mul_le_mono_nonneg_l; lia). lia. }
    lia.
  Qed.

  Lemma outputs n : 0 <= n <= M -> wq * n <= U.
  Proof. intros H. pose proof (price 0 n ltac:(lia) ltac:(lia)). lia. Qed.

  Lemma inv_start : inv start.
  Proof.
    assert (0 <= U) by (pose proof (outputs 0 ltac:(lia)); lia).
    assert (Zero : sum N (fun _ => 0) = 0) by (clear; induction N as [|n IH]; cbn; lia).
    split; unfold sigma, start; cbn; intros; try lia; discriminate.
  Qed.

  (** The floor does not fall. *)
  Lemma lifted_above s x : inv s -> lifts s x -> v s <= x.
  Proof.
    intros H [[(k & Hk & Qk & ->) _]|[E ->]]; [apply (I2 _ H); auto|apply (I4 _ H); auto].
  Qed.

  Lemma floor_rises s t : inv s -> step s t -> v s <= v t.
  Proof.
    intros H St. destruct St; cbn; try lia.
    - eapply lifted_above; eauto.
    - apply (I2 _ H); auto.
  Qed.

  (** Case distinction: client i is a, or a function altered at a is what it was at i. *)
  Ltac elsewhere i a := repeat match goal with
    | |- context [set ?f a ?x i] => rewrite (set_other f a x i) by auto
    | H : context [set ?f a ?x i] |- _ => rewrite (set_other f a x i) in H by auto
    end.
  Ltac at_client i a := destruct (Nat.eq_dec i a) as [->|?]; [rewrite ?set_same in *|elsewhere i a].

  Lemma inv_arrive s u x : inv s -> (u < N)%nat -> Q s u = false -> lifts s x ->
    inv (arrived s u x).
  Proof.
    intros H Hu Qu Lx. pose proof (lifted_above _ _ H Lx) as Up.
    assert (Held : forall i, (i < N)%nat -> 0 <= r s i <= M).
    { intros i Hi. pose proof (I0 _ H i). pose proof (I1 _ H).
      pose proof (one_in_sum N (m s) i ltac:(intros j _; pose proof (I0 _ H j); lia) Hi). lia. }
    split; unfold sigma, arrived, admitted, decoded, finished; cbn.
    - apply (I0 _ H).
    - apply (I1 _ H).
    - intros i Hi. at_client i u; [lia|]. intros Qi.
      destruct Lx as [[_ Least]|[None_ _]]; [auto|]. rewrite None_ in Qi by auto. discriminate.
    - intros i Hi. pose proof (I3 _ H i Hi). at_client i u; [|lia].
      pose proof (outputs (r s u) (Held u Hi)). lia.
    - intros None_. specialize (None_ u Hu). rewrite set_same in None_. discriminate.
    - intros f g Hf Hg E. pose proof (I5 _ H f g Hf Hg E) as P. unfold sigma in P. pose proof (I3 _ H f Hf).
      at_client g u.
      + rewrite set_other by auto. lia.
      + at_client f u; [|lia]. destruct (Z.le_gt_cases x (c s u)); [lia|].
        assert (r s u + r s g <= M).
        { pose proof (two_in_sum N (m s) u g ltac:(intros j _; pose proof (I0 _ H j); lia) Hf Hg ltac:(auto)).
          pose proof (I0 _ H u). pose proof (I0 _ H g). pose proof (I1 _ H). lia. }
        pose proof (I0 _ H u). pose proof (I0 _ H g).
        pose proof (outputs (r s u + r s g) ltac:(lia)). lia.
  Qed.

  Lemma inv_admit s a inp out stays : inv s -> (a < N)%nat -> Q s a = true ->
    (forall i, (i < N)%nat -> Q s i = true -> c s a <= c s i) ->
    0 <= inp <= L -> 0 <= out -> sum N (m s) + inp + out <= M ->
    inv (admitted s a inp out stays).
  Proof.
    intros H Ha Qa Least Hin Hout Fits. pose proof (I2 _ H a Ha Qa) as Up.
    assert (Paid : 0 <= wp * inp) by (apply Z.mul_nonneg_nonneg; lia).
    assert (Pos : forall j, (j < N)%nat -> 0 <= m s j) by (intros j _; pose proof (I0 _ H j); lia).
    split; unfold sigma, arrived, admitted, decoded, finished; cbn.
    - intros i. pose proof (I0 _ H i). at_client i a; lia.
    - rewrite sum_set by auto. lia.
    - intros i Hi. at_client i a; [lia|auto].
    - intros i Hi. pose proof (I3 _ H i Hi). at_client i a; [|lia].
      pose proof (I0 _ H a). pose proof (one_in_sum N (m s) a Pos Ha).
      pose proof (price inp (r s a + out) Hin ltac:(lia)). lia.
    - intros None_. pose proof (None_ a Ha) as E. rewrite set_same in E. subst stays. rewrite set_same. lia.
    - intros f g Hf Hg E. pose proof (I5 _ H f g Hf Hg E) as P. unfold sigma in P. pose proof (I3 _ H f Hf).
      at_client g a.
      + rewrite !set_other by auto. lia.
      + at_client f a; [|lia]. pose proof (I0 _ H a). pose proof (I0 _ H g).
        pose proof (two_in_sum N (m s) a g Pos Hf Hg ltac:(auto)).
        pose proof (price inp (r s a + out + r s g) Hin ltac:(lia)). lia.
  Qed.

  Lemma inv_decode s d : inv s -> (forall i, 0 <= d i <= r s i) ->
    inv (decoded s d).
  Proof.
    intros H D. assert (W : forall i, 0 <= wq * d i) by (intros i; apply Z.mul_nonneg_nonneg; [lia|apply D]).
    split; unfold sigma, arrived, admitted, decoded, finished; cbn.
    - intros i. pose proof (I0 _ H i). pose proof (D i). lia.
    - apply (I1 _ H).
    - intros i Hi Qi. pose proof (I2 _ H i Hi Qi). pose proof (W i). lia.
    - intros i Hi. pose proof (I3 _ H i Hi). lia.
    - intros None_. pose proof (I4 _ H None_). pose proof (W (last s)). lia.
    - intros f g Hf Hg E. pose proof (I5 _ H f g Hf Hg E) as P. unfold sigma in P. pose proof (W g). lia.
  Qed.

  Lemma inv_finish s a x y : inv s -> (a < N)%nat -> 0 <= x -> 0 <= y <= r s a -> r s a - y <= m s a - (x + y) ->
    inv (finished s a x y).
  Proof.
    intros H Ha Hx Hy Kept. assert (W : 0 <= wq * y) by (apply Z.mul_nonneg_nonneg; lia).
    split; unfold sigma, arrived, admitted, decoded, finished; cbn.
    - intros i. pose proof (I0 _ H i). at_client i a; lia.
    - rewrite sum_set by auto. pose proof (I1 _ H). lia.
    - apply (I2 _ H).
    - intros i Hi. pose proof (I3 _ H i Hi). at_client i a; lia.
    - apply (I4 _ H).
    - intros f g Hf Hg E. pose proof (I5 _ H f g Hf Hg E) as P. unfold sigma in P.
      at_client f a; at_client g a; try congruence; lia.
  Qed.

  (** The invariants hold in every reached state. *)
  Theorem vtc_invariant s : reached s -> inv s.
  Proof.
    induction 1 as [|s t R H St _]; [apply inv_start|].
    destruct St; [apply inv_arrive|apply inv_admit|apply inv_decode|apply inv_finish]; auto.
  Qed.

  Lemma inv_run P s t : inv s -> run P s t -> inv t.
  Proof.
    intros H. induction 1 as [|t u R Ht St _]; [exact H|].
    destruct St; [apply inv_arrive|apply inv_admit|apply inv_decode|apply inv_finish]; auto.
  Qed.

  Lemma run_ends P s t : run P s t -> P s /\ P t.
  Proof. induction 1 as [|t u R [Ps Pt] St Pu]; auto. Qed.

  (** * Service and counters *)

  (** Service is at most the change of the counter, which a lift raises. *)
  Lemma service_step s t i : step s t -> srv t i - srv s i <= c t i - c s i.
  Proof. destruct 1; cbn; try lia; [at_client i u|at_client i a]; lia. Qed.

  (** Of a client that stays in Q, or out of it, it is the change. *)
  Lemma service_stays s t i : step s t -> Q s i = Q t i -> srv t i - srv s i = c t i - c s i.
  Proof.
    destruct 1 as [u x Hu Qu Lx|a inp out stays|d D|a x y]; cbn; intros E; try lia.
    - at_client i u; [congruence|lia].
    - at_client i a; lia.
  Qed.

  Lemma service_waits (P : state -> Prop) i s t :
    (forall s, P s -> Q s i = true) -> run P s t -> srv t i - srv s i = c t i - c s i.
  Proof.
    intros W R. pose proof (run_ends _ _ _ R) as [Ps _]. induction R as [|t u R IH St Pu]; [lia|].
    pose proof (run_ends _ _ _ R) as [_ Pt]. pose proof (service_stays t u i St). rewrite !W in * by auto. lia.
  Qed.

  Lemma service_nonneg s t i : step s t -> srv s i <= srv t i.
  Proof.
    destruct 1 as [|a inp out stays Ha Qa Le Hin| d D|]; cbn; try lia.
    - assert (0 <= wp * inp) by (apply Z.mul_nonneg_nonneg; lia). at_client i a; lia.
    - assert (0 <= wq * d i) by (apply Z.mul_nonneg_nonneg; [lia|apply D]). lia.
  Qed.

  (** * The bounds *)

  (** L1: counters of waiting clients differ by at most U*.  Published with max(wp L, wq M) (recalled), which is too
      small if wp > wq; this constant is our derivation. *)
  Theorem vtc_gap s f g : reached s -> (f < N)%nat -> (g < N)%nat -> Q s f = true -> Q s g = true -> c s f - c s g <= U.
  Proof.
    intros R Hf Hg Qf Qg. pose proof (vtc_invariant _ R) as H. pose proof (I3 _ H f Hf). pose proof (I2 _ H g Hg Qg).
    pose proof (I0 _ H f). assert (0 <= wq * r s f) by (apply Z.mul_nonneg_nonneg; lia). lia.
  Qed.

  (** T1: the service of two clients that wait all through a window differs by at most 2U*.  Published with its
      constant; this one is our derivation. *)
  Theorem vtc_two_backlogged s t f g : reached s -> (f < N)%nat -> (g < N)%nat ->
    run (fun s => Q s f = true /\ Q s g = true) s t ->
    Z.abs ((srv t f - srv s f) - (srv t g - srv s g)) <= 2 * U.
  Proof.
    intros Re Hf Hg R. pose proof (run_ends _ _ _ R) as [[Qf Qg] [Qf' Qg']].
    pose proof (vtc_invariant _ Re) as H. pose proof (inv_run _ _ _ H R) as H'.
    pose proof (service_waits (fun s => Q s f = true /\ Q s g = true) f s t ltac:(intros ? []; auto) R).
    pose proof (service_waits (fun s => Q s f = true /\ Q s g = true) g s t ltac:(intros ? []; auto) R).
    assert (B : forall w i j, inv w -> (i < N)%nat -> (j < N)%nat -> Q w j = true -> c w i - c w j <= U).
    { intros w i j Hw Hi Hj Qj. pose proof (I3 _ Hw i Hi). pose proof (I2 _ Hw j Hj Qj). pose proof (I0 _ Hw i).
      assert (0 <= wq * r w i) by (apply Z.mul_nonneg_nonneg; lia). lia. }
    pose proof (B s f g H Hf Hg Qg). pose proof (B s g f H Hg Hf Qf).
    pose proof (B t f g H' Hf Hg Qg'). pose proof (B t g f H' Hg Hf Qf'). lia.
  Qed.

  (** What any client g got in a window: if it never waited, no more than what was reserved before; else no more than
      its counter is above the floor at the beginning, and what it was behind. *)
  Lemma others P g s t : inv s -> (g < N)%nat -> run P s t ->
    (Q t g = false /\ srv t g - srv s g + wq * r t g <= wq * r s g /\ srv t g - srv s g = c t g - c s g)
    \/ srv t g - srv s g <= c t g - v s + sigma s g.
  Proof.
    intros H Hg. induction 1 as [|t u R IH St _].
    - destruct (Q s g) eqn:Qg; [right|left; repeat split; auto; lia].
      pose proof (I2 _ H g Hg Qg). pose proof (I0 _ H g). unfold sigma.
      assert (0 <= wq * r s g) by (apply Z.mul_nonneg_nonneg; lia). lia.
    - pose proof (inv_run _ _ _ H R) as Ht.
      assert (Up : v s <= v t).
      { clear -R H wq_pos wp_nonneg lengths. induction R as [|t u R IH St _]; [lia|].
        pose proof (floor_rises t u (inv_run _ _ _ H R) St). lia. }
      pose proof (service_step t u g St) as Sg.
      destruct IH as [(Qg & B1 & B2)|B]; [|right; lia].
      pose proof (service_stays t u g St) as Same. pose proof (floor_rises t u Ht St) as Up'.
      pose proof (I0 _ Ht g) as R0. assert (0 <= wq * r t g) by (apply Z.mul_nonneg_nonneg; lia).
      destruct St as [u x Hu Qu Lx|a inp out stays Ha Qa Le Hin Ho Fi|d D|a x y Ha Hx Hy Kept]; cbn in *.
      + at_client g u; [right; unfold sigma; lia|left; repeat split; auto; lia].
      + assert (g <> a) by congruence. rewrite !set_other in * by auto. left. repeat split; auto; lia.
      + left. repeat split; auto; lia.
      + assert (0 <= wq * y) by (apply Z.mul_nonneg_nonneg; lia). left. at_client g a; repeat split; auto; lia.
  Qed.

  (** T3: nobody gets more than 2U* beyond a client that waits all through the window.  Published with factor 4
      (recalled); the factor 2 is our derivation. *)
  Theorem vtc_any_client s t f g : reached s -> (f < N)%nat -> (g < N)%nat -> run (fun s => Q s f = true) s t ->
    (srv t g - srv s g) - (srv t f - srv s f) <= 2 * U.
  Proof.
    intros Re Hf Hg R. pose proof (vtc_invariant _ Re) as H. pose proof (inv_run _ _ _ H R) as H'.
    pose proof (run_ends _ _ _ R) as [Qf Qf'].
    pose proof (service_waits (fun s => Q s f = true) f s t ltac:(auto) R) as Sf.
    assert (0 <= U) by (pose proof (outputs 0 ltac:(lia)); lia).
    destruct (Nat.eq_dec f g) as [->|E]; [lia|].
    assert (F : 0 <= srv t f - srv s f).
    { clear -R wq_pos wp_nonneg lengths. induction R as [|t u R IH St _]; [lia|].
      pose proof (service_nonneg t u f St). lia. }
    pose proof (I0 _ H g). pose proof (I1 _ H).
    pose proof (one_in_sum N (m s) g ltac:(intros j _; pose proof (I0 _ H j); lia) Hg).
    pose proof (outputs (r s g) ltac:(lia)).
    pose proof (I0 _ H' g). assert (0 <= wq * r t g) by (apply Z.mul_nonneg_nonneg; lia).
    pose proof (I0 _ H f). assert (0 <= wq * r s f) by (apply Z.mul_nonneg_nonneg; lia).
    destruct (others _ g s t H Hg R) as [(_ & B & _)|B]; [lia|].
    pose proof (I3 _ H' g Hg). pose proof (I2 _ H' f Hf Qf'). pose proof (I5 _ H f g Hf Hg E). lia.
  Qed.

  (** T4: while a request of a client waits that gets nothing, any other client gets at most 2U*.  Published as
      2(n - 1)U for all together (recalled). *)
  Corollary vtc_dispatch s t f g : reached s -> (f < N)%nat -> (g < N)%nat -> run (fun s => Q s f = true) s t ->
    srv t f = srv s f -> srv t g - srv s g <= 2 * U.
  Proof. intros Re Hf Hg R E. pose proof (vtc_any_client _ _ _ _ Re Hf Hg R). lia. Qed.
End Vtc.

(** * Tightness *)

(** The factor 2 is met: two clients whose requests fill a memory of two tokens, one of input and one of output at equal
    prices.  Client 0 is served once, then the window opens, and 1 is served twice, since ties are free.
    Source: our derivation. *)
Section Tight.
  Variable P : state -> Prop.
  Hypothesis by_queues : forall s, Q s 0%nat = true -> Q s 1%nat = true -> P s.

  Definition one (u : nat) : nat -> Z := set (fun _ => 0) u 1.
  Definition served (u : nat) (s : state) : state := finished (decoded 1 (admitted 1 s u 1 1 true) (one u)) u 2 0.
  Definition both : state := arrived (arrived start 0 0) 1 0.
  Definition opens : state := served 0 both.
  Definition ends : state := served 1 (served 1 opens).

  (** Serving a request of u, of two waiting clients with nothing in memory. *)
  Lemma serve s0 s u : (u < 2)%nat -> Q s 0%nat = true -> Q s 1%nat = true ->
    c s u <= c s 0%nat -> c s u <= c s 1%nat -> m s 0%nat = 0 -> m s 1%nat = 0 -> (forall i, r s i = 0) ->
    run 2 2 1 1 1 P s0 s -> run 2 2 1 1 1 P s0 (served u s).
  Proof.
    intros Hu Q0 Q1 L0 L1 M0 M1 R0 R.
    assert (A : forall x y n d, P (admitted 1 s u 1 1 true) /\ P (decoded 1 (admitted 1 s u 1 1 true) d)
      /\ P (finished (decoded 1 (admitted 1 s u 1 1 true) d) n x y)).
    { intros. repeat split; apply by_queues; cbn; unfold set; destruct u as [|[|u]]; cbn; auto. }
    destruct (A 2 0 u (one u)) as (P1 & P2 & P3).
    apply (further _ _ _ _ _ _ _ (decoded 1 (admitted 1 s u 1 1 true) (one u))); [|apply finish|exact P3].
    - apply (further _ _ _ _ _ _ _ (admitted 1 s u 1 1 true)); [|apply decode|exact P2].
      + apply (further _ _ _ _ _ _ _ s); [exact R|apply admit|exact P1]; try lia.
        * destruct u as [|[|u]]; auto; lia.
        * intros [|[|i]] Hi _; auto; lia.
        * cbn. lia.
      + intros i. cbn. unfold one, set. rewrite !R0. destruct (Nat.eqb i u); lia.
    - exact Hu.
    - lia.
    - cbn. unfold one. rewrite !set_same, R0. lia.
    - cbn. unfold one. rewrite !set_same, R0. destruct u as [|[|u]]; rewrite ?M0, ?M1; lia.
  Qed.
End Tight.

Theorem vtc_tight : reached 2 2 1 1 1 opens /\ run 2 2 1 1 1 (fun s => Q s 0%nat = true /\ Q s 1%nat = true) opens ends
  /\ (srv ends 1%nat - srv opens 1%nat) - (srv ends 0%nat - srv opens 0%nat) = 2 * U 2 1 1 1.
Proof.
  assert (R : forall i, r both i = 0 /\ r opens i = 0 /\ r (served 1 opens) i = 0).
  { intros [|[|i]]; repeat split; reflexivity. }
  split; [|split; [|reflexivity]].
  - unfold reached, opens. apply serve; try reflexivity; try (vm_compute; congruence); auto; try apply R.
    apply (further _ _ _ _ _ _ _ (arrived start 0 0)); [|apply arrive|exact I]; auto.
    + apply (further _ _ _ _ _ _ _ start); [apply here; exact I|apply arrive|exact I]; auto.
      right. split; auto.
    + left. split; [exists 0%nat; auto|]. intros [|[|i]] Hi; cbn; intros; try lia; discriminate.
  - unfold ends. apply serve; try reflexivity; try (vm_compute; congruence); auto; try apply R.
    apply serve; try reflexivity; try (vm_compute; congruence); auto; try apply R.
    apply here. auto.
Qed.

Print Assumptions vtc_invariant.
Print Assumptions vtc_gap.
Print Assumptions vtc_two_backlogged.
Print Assumptions vtc_any_client.
Print Assumptions vtc_dispatch.
Print Assumptions vtc_tight.
