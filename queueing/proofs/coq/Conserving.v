(** Work-conserving batches of at most b tokens under any law whose largest batch is the cheapest per token, such as the
    affine law; and the converse for all policies.

    Notation: T n duration of a batch of n tokens, n <= b; a request is its number of unserved tokens, at most L; the
    rest as in Tile.v.  Unit of time and work: 1/b of the law's unit, so that a token costs w = T b and a batch lasts
    b * T n. *)

From Coq Require Import ZArith QArith Lia Lqa List.
From Tandem Require Import Tile Rad.
Import ListNotations.
Local Open Scope Z_scope.

(** * The affine law *)

Definition affine (c a b0 n : Z) : Z := c + a * Z.max 0 (n - b0).

(** P5: the largest batch is the cheapest per token, n / T n <= b / T b for n <= b, if c >= a * b0.
    Source: our derivation (theory 3.5). *)
Theorem affine_rate c a b0 b n :
  0 <= a -> 0 <= c -> 0 <= b0 -> a * b0 <= c -> 1 <= n <= b -> n * affine c a b0 b <= b * affine c a b0 n.
Proof.
  intros A C B H N. unfold affine.
  assert (0 <= (c - a * b0) * (b - n)) by (apply Z.mul_nonneg_nonneg; lia).
  destruct (Z.max_spec 0 (b - b0)) as [[Hb ->]|[Hb ->]]; destruct (Z.max_spec 0 (n - b0)) as [[Hn ->]|[Hn ->]].
  - lia.
  - assert (0 <= a * ((b0 - n) * b)) by (repeat apply Z.mul_nonneg_nonneg; lia). lia.
  - lia.
  - assert (0 <= c * (b - n)) by (apply Z.mul_nonneg_nonneg; lia). lia.
Qed.

(** The condition is necessary as soon as a batch may hold b0 tokens and b > b0. *)
Theorem affine_rate_only_if c a b0 b :
  1 <= b0 < b -> (forall n, 1 <= n <= b -> n * affine c a b0 b <= b * affine c a b0 n) -> a * b0 <= c.
Proof.
  intros B H. specialize (H b0 ltac:(lia)). unfold affine in H.
  rewrite Z.max_r in H by lia. rewrite (Z.max_l 0 (b0 - b0)) in H by lia.
  assert (a * b0 * (b - b0) <= c * (b - b0)) by nia. nia.
Qed.

(** Without it: c = a = 1, b0 = 4, b = 8.  Batches of 4 in time 1 beat batches of 8 in time 5. *)
Example small_batches_faster : ~ 4 * affine 1 1 4 8 <= 8 * affine 1 1 4 4.
Proof. intros H. apply H. reflexivity. Qed.

Lemma affine_grows c a b0 m n : 0 <= a -> m <= n -> affine c a b0 m <= affine c a b0 n.
Proof. intros. unfold affine. assert (Z.max 0 (m - b0) <= Z.max 0 (n - b0)) by lia. nia. Qed.

(** * Any law whose largest batch is the cheapest *)

Section Conserving.
  Variables b L : Z.
  Variable T : Z -> Z.
  Hypothesis b_pos : 1 <= b.
  Hypothesis L_pos : 1 <= L.
  Hypothesis T_pos : 0 < T b.
  Hypothesis cheapest : forall n, 1 <= n <= b -> n * T b <= b * T n.

  (** A row of a batch: tokens that the request has left, that it may be given now, and that it is given. *)
  Record row := Row { left : Z; loadable : Z; given : Z }.
  Definition fair (r : row) : Prop := 1 <= loadable r <= left r /\ 0 <= given r <= loadable r.

  Definition remain (rows : list row) : list Z := filter (Z.ltb 0) (map (fun r => left r - given r) rows).

  (** Any policy with batches of at most b tokens. *)
  Definition any_start (x : list Z) (n : Z) (y : list Z) : Prop :=
    exists rows, x = map left rows /\ Forall fair rows /\ n = total (map given rows) /\ 1 <= n <= b /\ y = remain rows.

  (** Work conservation: the batch is full, or holds all that is loadable. *)
  Definition conserving_start (x : list Z) (n : Z) (y : list Z) : Prop :=
    exists rows, x = map left rows /\ Forall fair rows /\ n = total (map given rows) /\ 1 <= n <= b /\ y = remain rows
    /\ n = Z.min b (total (map loadable rows)).

  Definition short (r : Z) : Prop := 1 <= r <= L.
  Definition add (x : list Z) (r : Z) : list Z := x ++ [r].
  Definition any_reached : state (list Z) -> Prop :=
    reached (list Z) Z (fun r => r) short add any_start (fun _ => True) (fun n => b * T n) (T b) [].
  Definition conserving_reached : state (list Z) -> Prop :=
    reached (list Z) Z (fun r => r) short add conserving_start (fun x => x = []) (fun n => b * T n) (T b) [].
  Definition token_backlog : state (list Z) -> Q := backlog (list Z) total (fun n => b * T n) (T b).

  Lemma remain_spec rows : Forall fair rows -> Forall short (map left rows) ->
    Forall short (remain rows) /\ total (remain rows) = total (map left rows) - total (map given rows)
    /\ 0 <= total (remain rows) /\ count (map left rows) <= total (map loadable rows)
    /\ total (map left rows) <= L * count (map left rows).
  Proof.
    unfold count, short. induction 1 as [|r rows Hr _ IH]; intros Sh; [cbn; repeat split; auto; lia|].
    inversion Sh as [|? ? S1 S2]; subst. destruct (IH S2) as (F & E & P & C & U). destruct Hr as [H1 H2].
    unfold remain in *. cbn [map filter].
    destruct (Z.ltb_spec 0 (left r - given r)); cbn [length total fold_right map] in *;
      repeat match goal with |- context [fold_right Z.add 0 ?l] => fold (total l) end;
      rewrite ?Nat2Z.inj_succ in *; (split; [try constructor; auto; lia|]); repeat split; lia.
  Qed.

  Lemma short_work r : short r -> 0 <= T b * r.
  Proof. unfold short. nia. Qed.

  Lemma short_come x r : Forall short x -> short r -> Forall short (add x r).
  Proof. intros X S. apply Forall_app. auto. Qed.

  Lemma total_come x r : total (add x r) = total x + r.
  Proof. unfold add. rewrite total_app. cbn. lia. Qed.

  Lemma conserving_any x n y : conserving_start x n y -> any_start x n y.
  Proof. intros (rows & E & F & N & B & Y & _). exists rows. auto. Qed.

  Lemma any_short x n y : Forall short x -> any_start x n y -> Forall short y.
  Proof. intros X (rows & -> & F & N & B & ->). apply (remain_spec rows F X). Qed.

  Lemma any_serves x n y : Forall short x -> any_start x n y ->
    1 <= n /\ T b * n <= b * T n /\ total y = total x - n /\ 0 <= total y.
  Proof.
    intros X (rows & -> & F & N & B & ->). destruct (remain_spec rows F X) as (_ & E & P & _).
    specialize (cheapest n B). repeat split; lia.
  Qed.

  (** P5, for every policy with batches of at most b tokens, idling allowed: the work served by t is at most t, that is,
      at most b * t / T b tokens.  Source: our derivation (theory 3.5). *)
  Theorem any_policy_rate s : any_reached s ->
    (inject_Z (since 0 (hist _ s)) - token_backlog s <= inject_Z (now _ s))%Q.
  Proof.
    intros Re. assert (N : 0 <= now _ s) by
      apply (reached_past _ _ total _ _ _ _ _ _ _ _ short_work _ Re).
    assert (C : (inject_Z (since 0 (hist _ s) - (now _ s - 0)) <= token_backlog s)%Q).
    { apply (converse (list Z) Z total (fun r => r) short add any_start (fun _ => True) (fun n => b * T n) (T b) [])
        with (good := Forall short); auto using short_work, short_come, total_come, any_serves.
      intros x n y. apply any_short. }
    rewrite Z.sub_0_r in C. unfold Z.sub in C. rewrite inject_Z_plus, inject_Z_opp in C. lra.
  Qed.

  (** The sandwich of work conservation: for all arrivals of requests of at most L tokens, at every instant,
      Q* <= W <= Q* + w (b - 1) (L - 1) + T (b - 1), in the unit 1/b.
      Assumes that every request may be given a token at least, T (n) <= T (b - 1) for n < b, ample memory, no
      interrupted batches; Q* works at rate b / T b.  Source: our derivation (theory 3.4). *)
  Theorem conserving_sandwich s :
    0 <= T (b - 1) -> (forall n, 1 <= n < b -> T n <= T (b - 1)) -> conserving_reached s ->
    (inject_Z (ideal _ s) <= token_backlog s
     <= inject_Z (ideal _ s + (T b * (b - 1) * (L - 1) + b * T (b - 1))))%Q.
  Proof.
    intros T0 grows.
    apply (sandwich (list Z) Z total (fun r => r) short add) with (good := Forall short);
      auto using short_work, short_come, total_come.
    - intros x n y X St. eapply any_short; [exact X|]. apply conserving_any. exact St.
    - intros x n y X St. apply any_serves; [exact X|]. apply conserving_any. exact St.
    - assert (0 <= T b * (b - 1) * (L - 1)) by (repeat apply Z.mul_nonneg_nonneg; lia). nia.
    - intros x _ ->. reflexivity.
    - intros x n y X (rows & -> & F & N & B & _ & M). destruct (remain_spec rows F X) as (_ & _ & _ & C & U).
      destruct (Z.eq_dec n b) as [->|Nb]; [left; lia|]. right. specialize (grows n ltac:(lia)).
      assert (total (map left rows) <= L * n) by nia.
      assert (T b * total (map left rows) <= T b * (L * n)) by (apply Z.mul_le_mono_nonneg_l; lia).
      assert (T b * (L - 1) * n <= T b * (L - 1) * (b - 1)) by (apply Z.mul_le_mono_nonneg_l; nia).
      assert (b * T n <= b * T (b - 1)) by nia. lia.
  Qed.
End Conserving.

(** The affine law has such batches if c >= a * b0.  Source: our derivation (theory 3.4). *)
Corollary affine_sandwich b L c a b0 s :
  1 <= b -> 1 <= L -> 0 <= a -> 0 < c -> 0 <= b0 -> a * b0 <= c -> conserving_reached b L (affine c a b0) s ->
  (inject_Z (ideal _ s) <= token_backlog b (affine c a b0) s
   <= inject_Z (ideal _ s + (affine c a b0 b * (b - 1) * (L - 1) + b * affine c a b0 (b - 1))))%Q.
Proof.
  intros B Lp A C B0 H. assert (P : forall n, 0 < affine c a b0 n) by (intros; unfold affine; nia).
  apply conserving_sandwich; auto; intros.
  - apply affine_rate; lia.
  - specialize (P (b - 1)). lia.
  - apply affine_grows; lia.
Qed.

Print Assumptions affine_rate.
Print Assumptions affine_rate_only_if.
Print Assumptions any_policy_rate.
Print Assumptions conserving_sandwich.
Print Assumptions affine_sandwich.
