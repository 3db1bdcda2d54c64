(** Foster's criterion in its elementary form: under a drift, the mean time to reach a set is bounded, exactly.

    Notation: step s is a finite list of next states with whole weights, the probabilities up to their sum; F is the set
    to reach; V is a potential; time n s is the mean number of steps until F, cut off after n. *)

From Coq Require Import ZArith QArith Qfield Lia Lqa List.
Import ListNotations.
Local Open Scope Q_scope.

Definition whole (n : positive) : Q := inject_Z (Zpos n).

Section Chain.
  Variable S : Type.
  Variable F : S -> bool.
  Variable step : S -> list (positive * S).

  (** Sum of f over the next states, by weight; f = 1 gives the sum of the weights. *)
  Fixpoint sum (f : S -> Q) (l : list (positive * S)) : Q :=
    match l with
    | [] => 0
    | (p, s) :: l' => whole p * f s + sum f l'
    end.
  Definition mean (f : S -> Q) (s : S) : Q := sum f (step s) / sum (fun _ => 1) (step s).

  Fixpoint time (n : nat) (s : S) : Q :=
    match n with
    | O => 0
    | Datatypes.S m => if F s then 0 else 1 + mean (time m) s
    end.

  (** Probability that F is not reached within n steps. *)
  Fixpoint avoids (n : nat) (s : S) : Q :=
    if F s then 0 else match n with O => 1 | Datatypes.S m => mean (avoids m) s end.

  Lemma whole_pos p : 0 < whole p.
  Proof. reflexivity. Qed.

  Lemma sum_le f g l : (forall p s, In (p, s) l -> f s <= g s) -> sum f l <= sum g l.
  Proof.
    induction l as [|[p s] l IH]; cbn; intros H; [apply Qle_refl|].
    pose proof (whole_pos p). pose proof (H p s (or_introl eq_refl)).
    assert (sum f l <= sum g l) by (apply IH; intros; eapply H; right; eassumption). nra.
  Qed.

  Lemma sum_scale k f l : sum (fun s => k * f s) l == k * sum f l.
  Proof. induction l as [|[p s] l IH]; cbn; [ring|]. rewrite IH. ring. Qed.

  Lemma sum_plus f g l : sum (fun s => f s + g s) l == sum f l + sum g l.
  Proof. induction l as [|[p s] l IH]; cbn; [ring|]. rewrite IH. ring. Qed.

  Lemma weights_pos l : l <> [] -> 0 < sum (fun _ => 1) l.
  Proof.
    assert (N : forall m, 0 <= sum (fun _ => 1) m).
    { induction m as [|[p s] m IH]; cbn; [apply Qle_refl|]. pose proof (whole_pos p). lra. }
    destruct l as [|[p s] l]; [congruence|]. cbn. intros _. pose proof (whole_pos p). specialize (N l). lra.
  Qed.

  Hypothesis goes_on : forall s, step s <> [].

  Lemma mean_le f g s : (forall t, f t <= g t) -> mean f s <= mean g s.
  Proof.
    intros H. unfold mean. pose proof (weights_pos _ (goes_on s)) as P.
    apply Qle_shift_div_l; [exact P|]. unfold Qdiv. rewrite <- Qmult_assoc, (Qmult_comm (/ _)), Qmult_inv_r by lra.
    rewrite Qmult_1_r. apply sum_le. auto.
  Qed.

  Lemma mean_scale k f s : mean (fun t => k * f t) s == k * mean f s.
  Proof. unfold mean. rewrite sum_scale. unfold Qdiv. ring. Qed.

  Lemma mean_plus f g s : mean (fun t => f t + g t) s == mean f s + mean g s.
  Proof. unfold mean. rewrite sum_plus. unfold Qdiv. ring. Qed.

  (** ** The criterion *)

  Variable V : S -> Q.
  Variable eps : Q.
  Hypothesis eps_pos : 0 < eps.
  Hypothesis V_nonneg : forall s, 0 <= V s.
  Hypothesis drift : forall s, F s = false -> mean V s <= V s - eps.

  (** Foster: if V >= 0 falls by eps or more in the mean outside F, then the mean number of steps to F, cut off after
      any n, is at most V / eps.  Assumes finitely many next states with whole weights, at least one.
      Source: Foster (published); the proof by induction on n is our derivation. *)
  Theorem foster n : forall s, eps * time n s <= V s.
  Proof.
    induction n as [|n IH]; intros s; cbn [time].
    - pose proof (V_nonneg s). lra.
    - destruct (F s) eqn:Fs; [pose proof (V_nonneg s); lra|].
      pose proof (drift _ Fs) as D. pose proof (mean_le _ _ s IH) as M. rewrite mean_scale in M. lra.
  Qed.

  Corollary foster_time n s : time n s <= V s / eps.
  Proof.
    apply Qle_shift_div_l; [exact eps_pos|]. rewrite Qmult_comm. apply foster.
  Qed.

  Lemma mean_const k s : mean (fun _ => k) s == k.
  Proof.
    pose proof (weights_pos _ (goes_on s)) as P. unfold mean.
    assert (E : sum (fun _ => k) (step s) == k * sum (fun _ => 1) (step s)).
    { rewrite <- sum_scale. clear. induction (step s) as [|[p t] l IH]; cbn; [reflexivity|]. rewrite IH. ring. }
    rewrite E. field. lra.
  Qed.

  Lemma avoids_bounds n : forall s, 0 <= avoids n s <= 1.
  Proof.
    induction n as [|n IH]; intros s; cbn [avoids]; destruct (F s); try lra.
    pose proof (mean_le (fun _ => 0) (avoids n) s (fun t => proj1 (IH t))) as L.
    pose proof (mean_le (avoids n) (fun _ => 1) s (fun t => proj2 (IH t))) as U.
    rewrite mean_const in L, U. lra.
  Qed.

  Lemma avoids_falls n : forall s, avoids (Datatypes.S n) s <= avoids n s.
  Proof.
    induction n as [|n IH]; intros s.
    - pose proof (avoids_bounds 1 s). cbn [avoids] in *. destruct (F s); lra.
    - cbn [avoids] in *. destruct (F s); [lra|]. apply mean_le. intros t. specialize (IH t). exact IH.
  Qed.

  Lemma mean_ext f g s : (forall t, f t == g t) -> mean f s == mean g s.
  Proof.
    intros H. apply Qle_antisym; apply mean_le; intros t; specialize (H t); lra.
  Qed.

  (** The time cut off after n + 1 steps counts the steps at which F was not yet reached. *)
  Lemma time_avoids n : forall s, time (Datatypes.S n) s == time n s + avoids n s.
  Proof.
    induction n as [|n IH]; intros s.
    - cbn. destruct (F s); [ring|]. rewrite (mean_const 0 s). ring.
    - cbn [time avoids]. cbn [time] in IH. destruct (F s); [ring|]. rewrite (mean_ext _ _ s IH), mean_plus. ring.
  Qed.

  Lemma count_step k a u t : 0 <= k -> u <= a -> k * a <= t -> (k + 1) * u <= t + u.
  Proof.
    intros K A H. setoid_replace ((k + 1) * u) with (u * k + u) by ring.
    pose proof (Qmult_le_compat_r _ _ _ A K). setoid_replace (k * a) with (a * k) in H by ring. lra.
  Qed.

  (** F is reached with probability one: the probability of avoiding it for n steps is at most V / (eps (n + 1)).
      Same assumptions.  Source: Markov's inequality (published). *)
  Theorem foster_tail n s : eps * (inject_Z (Z.of_nat n) + 1) * avoids n s <= V s.
  Proof.
    enough (H : (inject_Z (Z.of_nat n) + 1) * avoids n s <= time (Datatypes.S n) s).
    { pose proof (foster (Datatypes.S n) s). nra. }
    induction n as [|n IH].
    - rewrite time_avoids. cbn [time]. change (inject_Z (Z.of_nat 0)) with 0. lra.
    - rewrite time_avoids. pose proof (avoids_falls n s) as A.
      rewrite Nat2Z.inj_succ. unfold Z.succ. rewrite inject_Z_plus. change (inject_Z 1) with 1.
      assert (N : 0 <= inject_Z (Z.of_nat n) + 1).
      { enough (0 <= inject_Z (Z.of_nat n)) by lra. rewrite <- Zle_Qle with (x := 0%Z). lia. }
      exact (count_step _ _ _ _ N A IH).
  Qed.
End Chain.

(** * Full batches *)

Section Batches.
  Variable S : Type.
  Variable step : S -> list (positive * S).
  Variable W : S -> Z. (* tokens of work at the start of a batch *)
  Variables b h : Z. (* tokens of a full batch; work from which on every batch is full *)
  Variable arrivals : list (positive * Z). (* tokens that come during a full batch, with whole weights *)
  Hypothesis some : arrivals <> [].
  Hypothesis goes_on : forall s, step s <> [].
  Hypothesis W_nonneg : forall s, (0 <= W s)%Z.
  Hypothesis full : forall s, (h <= W s)%Z ->
    map (fun q => (fst q, W (snd q))) (step s) = map (fun q => (fst q, (W s - b + snd q)%Z)) arrivals.

  Definition low (s : S) : bool := (W s <? h)%Z.
  Definition weight : Z := fold_right (fun q n => (Zpos (fst q) + n)%Z) 0%Z arrivals.
  Definition load : Z := fold_right (fun q n => (Zpos (fst q) * snd q + n)%Z) 0%Z arrivals.

  Lemma sum_of_full (f : Z -> Q) s : (h <= W s)%Z ->
    sum S (fun t => f (W t)) (step s) == sum Z (fun a => f (W s - b + a)%Z) arrivals.
  Proof.
    intros H. specialize (full s H). revert full. generalize (step s) arrivals.
    induction l as [|[p t] l IH]; intros [|[p' a] m] E; try discriminate; [reflexivity|].
    cbn in E. inversion E; subst. cbn. rewrite (IH m) by assumption.
    match goal with H : W t = _ |- _ => rewrite H end. reflexivity.
  Qed.

  (** P2 to P4: if from W >= h on every batch serves b tokens, and fewer than b tokens come during one in the mean,
      then the mean number of batches until W < h is at most W / (b - mean), whatever else the state holds.
      Cross-multiplied: with whole weights of sum `weight` and load = weight * mean.
      Source: our derivation (theory 3.5). *)
  Theorem full_batches_drain n s : (load < b * weight)%Z ->
    inject_Z (b * weight - load) * time S low step n s <= inject_Z (weight * W s).
  Proof.
    intros L.
    assert (Wp : (0 < weight)%Z).
    { unfold weight. destruct arrivals as [|[p a] m]; [congruence|]. cbn [fold_right fst snd].
      enough (0 <= fold_right (fun q n => (Zpos (fst q) + n)%Z) 0%Z m)%Z by lia.
      clear. induction m as [|q m IH]; cbn [fold_right]; lia. }
    apply (foster S low step goes_on (fun t => inject_Z (weight * W t))).
    - intros t. rewrite <- Zle_Qle with (x := 0%Z). specialize (W_nonneg t). nia.
    - intros t Lt. unfold low in Lt. apply Z.ltb_ge in Lt. unfold mean.
      rewrite (sum_of_full (fun v => inject_Z (weight * v)) t Lt), (sum_of_full (fun _ => 1) t Lt).
      assert (E1 : sum Z (fun _ => 1) arrivals == inject_Z weight).
      { unfold weight. clear. induction arrivals as [|[p a] m IH]; cbn [sum fold_right fst snd]; [reflexivity|].
        rewrite IH, inject_Z_plus. unfold whole. ring. }
      assert (E2 : sum Z (fun a => inject_Z (weight * (W t - b + a))) arrivals
                   == inject_Z weight * (inject_Z weight * inject_Z (W t - b) + inject_Z load)).
      { rewrite <- E1 at 2. unfold load. generalize weight. clear. intros k.
        induction arrivals as [|[p a] m IH]; cbn [sum fold_right fst snd]; [change (inject_Z 0) with 0; ring|].
        rewrite IH, inject_Z_plus, !inject_Z_mult, inject_Z_plus. unfold whole. ring. }
      rewrite E1, E2. assert (P : 0 < inject_Z weight) by (rewrite <- Zlt_Qlt with (x := 0%Z); lia).
      assert (E3 : inject_Z weight * (inject_Z weight * inject_Z (W t - b) + inject_Z load) / inject_Z weight
                   == inject_Z weight * inject_Z (W t - b) + inject_Z load) by (field; lra).
      rewrite E3, <- inject_Z_mult, <- inject_Z_plus.
      unfold Qminus. rewrite <- inject_Z_opp, <- inject_Z_plus, <- Zle_Qle. lia.
  Qed.
End Batches.

(** * Controls *)

(** Without a drift the bound fails for every V: as many tokens come during each batch as it serves (load = b * weight),
    the state stays where it is, and the mean time cut off after n steps is n. *)
Example no_drift : forall n, (time unit (fun _ => false) (fun s => [(1%positive, s)]) n tt == inject_Z (Z.of_nat n))%Q.
Proof.
  induction n as [|n IH]; [reflexivity|].
  cbn [time]. unfold mean. cbn [sum]. rewrite IH. rewrite Nat2Z.inj_succ. unfold Z.succ. rewrite inject_Z_plus.
  unfold whole. field.
Qed.

(** Without V >= 0 it fails as well: always one down, with nothing to reach, V s = s falls by 1, and yet the time from 0
    exceeds V 0 = 0. *)
Example negative_potential :
  (time Z (fun _ => false) (fun s => [(1%positive, (s - 1)%Z)]) 3 0%Z == 3 /\ ~ 3 <= inject_Z 0)%Q.
Proof. split; [reflexivity|]. intros H. apply H. reflexivity. Qed.

Print Assumptions foster.
Print Assumptions foster_time.
Print Assumptions foster_tail.
Print Assumptions full_batches_drain.
