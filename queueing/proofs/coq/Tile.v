(** One engine that serves tokens in batches, against an ideal fluid server: exact, for every policy and all arrivals.

    Notation, all whole numbers:
      T n      duration of a batch of n tokens
      w        price of a token: w * n <= T n for every batch served; a batch with w * n = T n is "full"
      tok x    unserved tokens of the content x of the engine, less those of the batch in progress
      rest     time until the batch in progress ends; 0 at the boundary between two batches
      ideal    Q*, backlog of a fluid server of speed 1
      backlog  W, unserved work; the batch in progress counts pro rata (a rational number)
    Time and work have one unit, in which everything is whole: any rational instance has one, and it may be refined at
    will, so the instants below are all rational instants.

    Tile law tau * ceil(n / b) + nu * n: in the unit 1/b its price is w = tau + nu * b and its duration
    T n = b * tau * ceil(n / b) + b * nu * n. *)

From Coq Require Import ZArith QArith Qfield Lia Lqa List.
Import ListNotations.
Local Open Scope Z_scope.
Local Arguments inject_Z : simpl never.

(** * The system *)

Section Server.
  Variables X R : Type. (* content of the engine; request *)
  Variable tok : X -> Z.
  Variable size : R -> Z. (* tokens of a request *)
  Variable fits : R -> Prop. (* requests that may come *)
  Variable come : X -> R -> X. (* content after an arrival *)
  Variable start : X -> Z -> X -> Prop. (* start x n y: the policy may serve n tokens of x, which leaves y *)
  Variable may_idle : X -> Prop.
  Variable T : Z -> Z.
  Variable w : Z.
  Variable x0 : X.

  Record state := State {
    now : Z;
    content : X;
    batch : Z; (* tokens of the batch in progress, or of the last one *)
    rest : Z;
    hist : list (Z * Z); (* arrivals: time and work, latest first *)
    ideal : Z
  }.

  (** What may happen: a request comes, a part of the batch goes by, a batch starts, the engine idles.  A batch takes
      its tokens at its start; the content is looked at again only at the next boundary. *)
  Inductive step : state -> state -> Prop :=
  | Come : forall t x n u h q r, fits r ->
      step (State t x n u h q) (State t (come x r) n u ((t, w * size r) :: h) (q + w * size r))
  | Tick : forall t x n u h q dt, 0 <= dt <= u ->
      step (State t x n u h q) (State (t + dt) x n (u - dt) h (Z.max 0 (q - dt)))
  | Start : forall t x n h q m y, start x m y ->
      step (State t x n 0 h q) (State t y m (T m) h q)
  | Idle : forall t x n h q dt, 0 <= dt -> may_idle x ->
      step (State t x n 0 h q) (State (t + dt) x n 0 h (Z.max 0 (q - dt))).

  (** The states that occur at some instant of some run from the empty engine. *)
  Inductive reached : state -> Prop :=
  | Empty : reached (State 0 x0 0 0 [] 0)
  | Next : forall s s', reached s -> step s s' -> reached s'.

  (** W. *)
  Definition backlog (s : state) : Q :=
    (inject_Z (w * tok (content s)) + inject_Z (w * batch s * rest s) / inject_Z (T (batch s)))%Q.

  (** A[s, now]: work that came in the closed window. *)
  Fixpoint since (s : Z) (h : list (Z * Z)) : Z :=
    match h with
    | [] => 0
    | (a, x) :: h' => (if s <=? a then x else 0) + since s h'
    end.

  (** ** Q* is what its definition says *)

  Hypothesis work_positive : forall r, fits r -> 0 <= w * size r.

  Lemma since_later s h : (forall a x, In (a, x) h -> a < s) -> since s h = 0.
  Proof.
    induction h as [|[a x] h IH]; cbn; intros H; [reflexivity|].
    rewrite IH by (intros; eapply H; right; eassumption).
    specialize (H a x (or_introl eq_refl)). destruct (Z.leb_spec s a); lia.
  Qed.

  Definition past (s : state) : Prop := 0 <= now s /\ forall a x, In (a, x) (hist s) -> 0 <= a <= now s /\ 0 <= x.

  Lemma reached_past s : reached s -> past s.
  Proof.
    induction 1 as [|s s' _ [I J] St]; [split; cbn; [lia|tauto]|].
    destruct St; cbn in *; (split; cbn; [lia|]); intros a x' E.
    - destruct E as [E|E]; [inversion E; subst; split; [lia|auto] | auto].
    - specialize (J a x' E); lia.
    - auto.
    - specialize (J a x' E); lia.
  Qed.

  Definition is_sup (t : Z) (h : list (Z * Z)) (q : Z) : Prop :=
    0 <= q /\ (forall s, s <= t -> since s h - (t - s) <= q)
    /\ (q = 0 \/ exists s, 0 <= s <= t /\ q = since s h - (t - s)).

  Lemma sup_wait t h q dt :
    0 <= dt -> (forall a x, In (a, x) h -> a <= t) -> is_sup t h q -> is_sup (t + dt) h (Z.max 0 (q - dt)).
  Proof.
    intros Hd Hh (H0 & H1 & H2). repeat split.
    - lia.
    - intros s Hs. destruct (Z_le_gt_dec s t) as [L|G].
      + specialize (H1 s L). lia.
      + rewrite since_later by (intros a x E; specialize (Hh a x E); lia). lia.
    - destruct (Z_le_gt_dec q dt) as [L|G]; [left; lia|].
      destruct H2 as [E|(s & Hs & E)]; [lia|]. right. exists s. lia.
  Qed.

  (** Q*(t) = sup over s <= t of (A[s, t] - (t - s))^+.  Assumes that requests have no negative work.
      Source: Lindley's recursion (published); this discrete proof is our derivation. *)
  Theorem ideal_is_sup s : reached s -> is_sup (now s) (hist s) (ideal s).
  Proof.
    induction 1 as [|s s' Re IH St].
    - cbn. repeat split; cbn; intros; lia.
    - pose proof (reached_past _ Re) as [P0 P].
      destruct St; cbn in *.
      + pose proof (work_positive _ H) as Wr. destruct IH as (Q0 & Q1 & Q2). repeat split; cbn.
        * lia.
        * intros s Hs. specialize (Q1 s Hs). destruct (Z.leb_spec s t); lia.
        * destruct Q2 as [E|(s & Hs & E)].
          -- destruct (Z.eq_dec (w * size r) 0) as [Z0|Z0]; [left; lia|]. right. exists t. cbn.
             rewrite Z.leb_refl. specialize (Q1 t (Z.le_refl t)).
             enough (since t h = 0) by lia. enough (0 <= since t h) by lia.
             clear - P. induction h as [|[a x'] h IH]; cbn; [lia|].
             assert (0 <= since t h) by (apply IH; intros; eapply P; right; eassumption).
             specialize (P a x' (or_introl eq_refl)). destruct (t <=? a); lia.
          -- right. exists s. cbn. destruct (Z.leb_spec s t); lia.
      + apply sup_wait; auto; [lia|]. intros a x' E. apply (P a x' E).
      + exact IH.
      + apply sup_wait; auto. intros a x' E. apply (P a x' E).
  Qed.

  (** ** The sandwich *)

  Variable good : X -> Prop. (* what holds of every content that occurs *)
  Hypothesis good_empty : good x0.
  Hypothesis good_come : forall x r, good x -> fits r -> good (come x r).
  Hypothesis good_start : forall x n y, good x -> start x n y -> good y.
  Hypothesis tok_empty : tok x0 = 0.
  Hypothesis tok_come : forall x r, tok (come x r) = tok x + size r.
  Hypothesis tok_start : forall x n y, good x -> start x n y ->
    1 <= n /\ w * n <= T n /\ tok y = tok x - n /\ 0 <= tok y.
  Hypothesis price_positive : 0 < w.

  Definition sound (s : state) : Prop :=
    good (content s) /\ 0 <= tok (content s)
    /\ (batch s = 0 /\ rest s = 0 \/ 1 <= batch s /\ w * batch s <= T (batch s) /\ 0 <= rest s <= T (batch s)).

  Lemma reached_sound s : reached s -> sound s.
  Proof.
    induction 1 as [|s s' _ (G & P & B) St]; [repeat split; cbn; auto; lia|].
    destruct St; unfold sound; cbn in *.
    - pose proof (work_positive _ H). rewrite tok_come. repeat split; auto. nia.
    - repeat split; auto. lia.
    - destruct (tok_start _ _ _ G H) as (N & C & E & N'). repeat split; eauto. right. nia.
    - repeat split; auto.
  Qed.

  (** Pro rata shares: v of work over t of time, v <= t. *)
  Lemma share v u t : 0 <= v <= t -> 0 <= u <= t -> 0 < t ->
    (0 <= inject_Z (v * u) / inject_Z t <= inject_Z u)%Q.
  Proof.
    intros V U P. assert (P' : (0 < inject_Z t)%Q) by (rewrite <- Zlt_Qlt with (x := 0); lia).
    split.
    - apply Qle_shift_div_l; [exact P'|]. rewrite Qmult_0_l, <- Zle_Qle with (x := 0). nia.
    - apply Qle_shift_div_r; [exact P'|]. rewrite <- inject_Z_mult, <- Zle_Qle. nia.
  Qed.

  Lemma share_tick v u t d : 0 <= v <= t -> 0 <= d <= u -> u <= t -> 0 < t ->
    (inject_Z (v * u) / inject_Z t <= inject_Z (v * (u - d)) / inject_Z t + inject_Z d)%Q.
  Proof.
    intros V D U P. pose proof (share v d t V ltac:(lia) P) as [_ S].
    assert (P' : ~ (inject_Z t == 0)%Q) by (intros E; apply (inject_Z_injective t 0) in E; lia).
    assert (E : (inject_Z (v * u) / inject_Z t
                 == inject_Z (v * (u - d)) / inject_Z t + inject_Z (v * d) / inject_Z t)%Q).
    { replace (v * u) with (v * (u - d) + v * d) by lia. rewrite inject_Z_plus. field. exact P'. }
    rewrite E. lra.
  Qed.

  Lemma backlog_boundary s : rest s = 0 -> (backlog s == inject_Z (w * tok (content s)))%Q.
  Proof.
    intros E. unfold backlog. rewrite E, Z.mul_0_r. change (inject_Z 0) with 0%Q. unfold Qdiv. ring.
  Qed.

  Lemma backlog_bounds s : reached s ->
    (inject_Z (w * tok (content s)) <= backlog s <= inject_Z (w * tok (content s) + rest s))%Q.
  Proof.
    intros Re. destruct (reached_sound _ Re) as (_ & P & B).
    destruct B as [[B0 B1]|(B0 & B2 & B1)].
    - rewrite backlog_boundary, B1, Z.add_0_r by exact B1. split; apply Qle_refl.
    - destruct (share (w * batch s) (rest s) (T (batch s)) ltac:(nia) ltac:(lia) ltac:(nia)) as [S0 S1].
      rewrite inject_Z_plus. unfold backlog. split; lra.
  Qed.

  (** No policy beats the fluid server: Q* <= W at every instant, whatever is served, and idling allowed.
      Assumes only that every batch serves n >= 1 tokens that were there and lasts at least w * n.
      Source: our derivation (theory 3.4, left inequality). *)
  Theorem ideal_below s : reached s -> (inject_Z (ideal s) <= backlog s)%Q.
  Proof.
    induction 1 as [|s s' Re IH St].
    - rewrite backlog_boundary by reflexivity. cbn. rewrite tok_empty, Z.mul_0_r. apply Qle_refl.
    - destruct (backlog_bounds _ (Next _ _ Re St)) as [L _].
      destruct (reached_sound _ Re) as (G & P & B).
      destruct (reached_sound _ (Next _ _ Re St)) as (G' & P' & _).
      assert (L0 : (0 <= inject_Z (w * tok (content s')))%Q) by (rewrite <- Zle_Qle with (x := 0); nia).
      destruct St; cbn in *.
      + unfold backlog in *; cbn in *. rewrite tok_come, Z.mul_add_distr_l, !inject_Z_plus. lra.
      + apply Z.max_case_strong; intros Hm; [exact (Qle_trans _ _ _ L0 L)|].
        destruct B as [[B0 B1]|(B0 & B2 & B1)].
        * replace (q - dt) with q by lia.
          unfold backlog in *; cbn in *. replace (u - dt) with u by lia. exact IH.
        * pose proof (share_tick (w * n) u (T n) dt ltac:(nia) ltac:(lia) ltac:(lia) ltac:(nia)) as Sh.
          unfold backlog in *; cbn in *. unfold Z.sub at 1. rewrite inject_Z_plus, inject_Z_opp. lra.
      + rewrite backlog_boundary in IH by reflexivity. cbn in IH. eapply Qle_trans; [exact IH|].
        destruct (tok_start _ _ _ G H) as (N & C & E & N').
        unfold backlog; cbn.
        rewrite (inject_Z_mult (w * m) (T m)).
        assert (NZ : ~ (inject_Z (T m) == 0)%Q) by (intros Z; apply (inject_Z_injective (T m) 0) in Z; nia).
        rewrite E. replace (w * (tok x - m)) with (w * tok x + - (w * m)) by lia.
        rewrite inject_Z_plus, inject_Z_opp. unfold Qdiv.
        rewrite <- Qmult_assoc, Qmult_inv_r by exact NZ. lra.
      + rewrite backlog_boundary in * by reflexivity; cbn in *.
        apply Z.max_case_strong; intros Hm; [exact L0|]. eapply Qle_trans; [|exact IH]. rewrite <- Zle_Qle. lia.
  Qed.

  (** Converse: no policy serves more than one unit of work per unit of time, so W >= A[a, t] - (t - a) at every instant
      t >= a: the backlog is at least what came less the time there was.  Source: our derivation (theory 3.2). *)
  Theorem converse s a : reached s -> a <= now s -> (inject_Z (since a (hist s) - (now s - a)) <= backlog s)%Q.
  Proof.
    intros Re H. eapply Qle_trans; [|apply (ideal_below _ Re)]. rewrite <- Zle_Qle.
    apply (ideal_is_sup _ Re). exact H.
  Qed.

  (** Overload: if rho t work or more came by t, rho = rn / rd, then W >= (rho - 1) t, without bound for rho > 1.
      Source: our derivation (theory 3.2). *)
  Corollary overload s rn rd : reached s -> 0 < rd -> rn * now s <= rd * since 0 (hist s) ->
    (inject_Z ((rn - rd) * now s) <= inject_Z rd * backlog s)%Q.
  Proof.
    intros Re R0 H. pose proof (converse _ 0 Re (proj1 (reached_past _ Re))) as C.
    assert (P : (0 < inject_Z rd)%Q) by (rewrite <- Zlt_Qlt with (x := 0); lia).
    apply (Qmult_le_l _ _ _ P) in C. eapply Qle_trans; [|exact C]. rewrite <- inject_Z_mult, <- Zle_Qle. nia.
  Qed.

  (** The upper side. *)
  Variable K : Z.
  Hypothesis K_nonneg : 0 <= K.
  Hypothesis busy : forall x, good x -> may_idle x -> tok x = 0.
  Hypothesis full_or_small : forall x n y, good x -> start x n y ->
    T n = w * n \/ w * tok x + (T n - w * n) <= K.

  (** At every instant, the unserved work without the batch in progress plus the rest of that batch is at most
      Q* + K. *)
  Lemma clearing s : reached s -> w * tok (content s) + rest s <= ideal s + K.
  Proof.
    induction 1 as [|s s' Re IH St]; [cbn; rewrite tok_empty; lia|].
    destruct (reached_sound _ Re) as (G & _ & _).
    pose proof (ideal_is_sup _ Re) as (Q0 & _).
    destruct St; cbn in *.
    - rewrite tok_come. lia.
    - lia.
    - destruct (tok_start _ _ _ G H) as (_ & _ & E & _). destruct (full_or_small _ _ _ G H); nia.
    - rewrite (busy _ G H0) in *. lia.
  Qed.

  (** Sandwich: Q* <= W <= Q* + K at every instant and for all arrivals, if the engine idles only when empty and every
      batch that is not full starts with so little work that this work and what the batch wastes are at most K.
      Source: our derivation (theory 3.4). *)
  Theorem sandwich s : reached s -> (inject_Z (ideal s) <= backlog s <= inject_Z (ideal s + K))%Q.
  Proof.
    intros Re. split; [apply ideal_below, Re|].
    destruct (backlog_bounds _ Re) as [_ U]. eapply Qle_trans; [exact U|]. rewrite <- Zle_Qle. apply clearing, Re.
  Qed.

  (** Envelope: if A[s, t] <= sigma + rho (t - s) for all 0 <= s <= t = now and rho = rn / rd <= 1, then
      W <= sigma + K.  Source: our derivation (theory 3.4). *)
  Theorem envelope s sigma rn rd :
    reached s -> 0 <= sigma -> 0 < rd -> rn <= rd ->
    (forall a, 0 <= a <= now s -> rd * since a (hist s) <= rd * sigma + rn * (now s - a)) ->
    (backlog s <= inject_Z (sigma + K))%Q.
  Proof.
    intros Re S0 R0 R1 Env. destruct (sandwich _ Re) as [_ U]. eapply Qle_trans; [exact U|]. rewrite <- Zle_Qle.
    destruct (ideal_is_sup _ Re) as (_ & _ & [E|(a & Ha & E)]); [lia|]. specialize (Env a Ha). nia.
  Qed.
End Server.

(** * The tile law *)

Section Law.
  Variables b tau nu : Z.
  Hypothesis b_pos : 1 <= b.
  Hypothesis tau_nonneg : 0 <= tau.
  Hypothesis nu_nonneg : 0 <= nu.

  Definition tile_price : Z := tau + nu * b.
  Definition tile_time (n : Z) : Z := b * tau * ((n + b - 1) / b) + b * nu * n.

  (** A token costs at least w in every batch. *)
  Lemma tile_rate n : tile_price * n <= tile_time n.
  Proof.
    unfold tile_price, tile_time.
    pose proof (Z.div_mod (n + b - 1) b ltac:(lia)). pose proof (Z.mod_pos_bound (n + b - 1) b ltac:(lia)). nia.
  Qed.

  (** A multiple of b costs exactly w per token. *)
  Lemma tile_full n : (b | n) -> tile_time n = tile_price * n.
  Proof.
    intros [k ->]. unfold tile_price, tile_time.
    replace (k * b + b - 1) with (k * b + (b - 1)) by lia.
    rewrite Z.div_add_l, Z.div_small by lia. lia.
  Qed.

  (** n of b tokens waste tau (b - n). *)
  Lemma tile_part n : 1 <= n <= b -> tile_time n = tile_price * n + tau * (b - n).
  Proof.
    intros H. unfold tile_price, tile_time.
    replace (n + b - 1) with (1 * b + (n - 1)) by lia. rewrite Z.div_add_l, Z.div_small by lia. lia.
  Qed.
End Law.

Print Assumptions ideal_is_sup.
Print Assumptions ideal_below.
Print Assumptions converse.
Print Assumptions overload.
Print Assumptions sandwich.
Print Assumptions envelope.
