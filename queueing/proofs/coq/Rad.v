(** RAD on one engine (policies/rad.py; Bari, Hegde, de Veciana, arXiv 2508.01002, algorithm 1), without cycles and with
    ample memory: full batches, at most b decodes, and a backlog within K0 of the ideal fluid server's.

    Notation: b tokens of a tile; c tokens of a prompt chunk, a multiple of b; a request is (p, d), unserved prompt
    tokens and decode tokens; P waiting prompts, oldest first; D unserved tokens of the decoding requests; the rest as
    in Tile.v.  Unit of time and work: see Tile.v; there w = tau + nu * b and K0 = w * (b - 1) * dmax + tau. *)

From Coq Require Import ZArith QArith Lia List.
From Tandem Require Import Tile.
Import ListNotations.
Local Open Scope Z_scope.

(** * The policy *)

Definition node : Type := list (Z * Z) * list Z.
Definition size (r : Z * Z) : Z := fst r + snd r.
Definition total (l : list Z) : Z := fold_right Z.add 0 l.
Definition tokens (x : node) : Z := total (map size (fst x)) + total (snd x).
Definition count (l : list Z) : Z := Z.of_nat (length l).

(** One token of every request of D; the ones that are done leave. *)
Definition decode (D : list Z) : list Z := filter (Z.ltb 0) (map Z.pred D).

(** A request whose prompt is done joins D, unless it wants no decode token. *)
Definition join (D : list Z) (d : Z) : list Z := if 0 <? d then D ++ [d] else D.

(** The next batch: its tokens, and what it leaves; None if there is nothing to serve. *)
Definition rad (b c : Z) (x : node) : option (Z * node) :=
  match fst x, snd x with
  | [], [] => None
  | [], D => Some (count D, ([], decode D))
  | (p, d) :: P, D =>
      if b <=? count D then Some (count D, ((p, d) :: P, decode D))
      else if p <=? c then Some (p, (P, join D d))
      else Some (c, ((p - c, d) :: P, D))
  end.

Definition rad_come (x : node) (r : Z * Z) : node := (fst x ++ [r], snd x).
Definition rad_start (b c : Z) (x : node) (n : Z) (y : node) : Prop := rad b c x = Some (n, y).
Definition rad_idle (b c : Z) (x : node) : Prop := rad b c x = None.

(** * Its batches *)

Section Batches.
  Variables b c dmax : Z.
  Hypothesis b_pos : 1 <= b.
  Hypothesis c_pos : 1 <= c.
  Hypothesis tile_chunk : (b | c).

  (** Requests that may come: prompts are positive multiples of the chunk, at most dmax decode tokens. *)
  Definition aligned (r : Z * Z) : Prop := 1 <= fst r /\ (c | fst r) /\ 0 <= snd r <= dmax.

  (** What holds of every content. *)
  Definition tidy (x : node) : Prop :=
    Forall aligned (fst x) /\ Forall (fun d => 1 <= d <= dmax) (snd x) /\ count (snd x) <= b.

  Lemma count_nonneg l : 0 <= count l.
  Proof. unfold count. lia. Qed.

  Lemma decode_spec D : Forall (fun d => 1 <= d <= dmax) D ->
    Forall (fun d => 1 <= d <= dmax) (decode D) /\ count (decode D) <= count D
    /\ total (decode D) = total D - count D /\ count D <= total D <= dmax * count D.
  Proof.
    unfold count. induction 1 as [|d D Hd _ IH]; [cbn; repeat split; auto; lia|].
    destruct IH as (F & L & E & U & V). unfold decode in *. cbn [map filter].
    destruct (Z.ltb_spec 0 (Z.pred d)); cbn [length total fold_right] in *;
      fold (total (filter (Z.ltb 0) (map Z.pred D))) (total D) in *;
      repeat split; try constructor; auto; nia.
  Qed.

  Lemma total_app l m : total (l ++ m) = total l + total m.
  Proof. induction l; cbn; [reflexivity|]. fold (total (l ++ m)) (total l). lia. Qed.

  Lemma join_spec D d : Forall (fun e => 1 <= e <= dmax) D -> 0 <= d <= dmax ->
    Forall (fun e => 1 <= e <= dmax) (join D d) /\ count (join D d) <= count D + 1 /\ total (join D d) = total D + d.
  Proof.
    intros F H. unfold join, count. destruct (Z.ltb_spec 0 d).
    - repeat split.
      + apply Forall_app. split; [exact F|]. constructor; [lia|constructor].
      + rewrite app_length. cbn. lia.
      + rewrite total_app. cbn. lia.
    - repeat split; [exact F| lia | lia].
  Qed.

  Lemma count_zero l : count l = 0 -> l = [].
  Proof. destruct l; [reflexivity|]. unfold count. cbn. lia. Qed.

  Lemma whole_chunk r : aligned r -> c <= fst r /\ (fst r <= c -> fst r = c).
  Proof. intros (H1 & [k E] & _). assert (1 <= k) by nia. nia. Qed.

  (** Batches of RAD: a batch is one chunk of the oldest prompt, started with fewer than b decodes, or one token of
      every decoding request, started with b of them or with no prompt waiting.
      Assumes aligned prompts.  Source: algorithm 1 of arXiv 2508.01002 (recalled). *)
  Theorem rad_batch x n y : tidy x -> rad b c x = Some (n, y) ->
    (n = c /\ count (snd x) < b /\ fst x <> [])
    \/ (n = count (snd x) /\ snd y = decode (snd x) /\ fst y = fst x /\ (n = b \/ fst x = [] /\ 1 <= n < b)).
  Proof.
    intros (A & F & L) E. destruct x as [P D]. unfold rad in E. cbn [fst snd] in *.
    destruct P as [|[p d] P].
    - right. destruct D as [|e D]; [discriminate|]. inversion E; subst. repeat split.
      destruct (Z.eq_dec (count (e :: D)) b); [left; auto|right]. split; auto. unfold count in *. cbn in *. lia.
    - inversion A as [|? ? Ap _]; subst. destruct (whole_chunk _ Ap) as [W1 W2]. cbn in W1, W2.
      destruct (Z.leb_spec b (count D)).
      + right. inversion E; subst. repeat split. left. lia.
      + left. destruct (Z.leb_spec p c); inversion E; subst; repeat split; auto; try discriminate.
  Qed.

  (** Every batch of RAD is full (a multiple of b tokens), or decodes fewer than b requests while no prompt waits.
      Assumes aligned prompts.  Source: arXiv 2508.01002 (recalled). *)
  Corollary rad_full_or_drained x n y : tidy x -> rad b c x = Some (n, y) ->
    (b | n) \/ (fst x = [] /\ n = count (snd x) /\ 1 <= n < b).
  Proof.
    intros H E. destruct (rad_batch _ _ _ H E) as [(-> & _)|(N & _ & _ & [->|[H1 H2]])].
    - left. exact tile_chunk.
    - left. apply Z.divide_refl.
    - right. auto.
  Qed.

  (** D never holds more than b requests: it grows by at most one, and only in a batch that starts with fewer than b.
      Source: arXiv 2508.01002 (recalled). *)
  Theorem rad_decodes_bound x n y : tidy x -> rad b c x = Some (n, y) ->
    count (snd y) <= b /\ (count (snd x) < count (snd y) -> count (snd y) = count (snd x) + 1 /\ count (snd x) < b).
  Proof.
    intros (A & F & L) E. destruct x as [P D]. unfold rad in E. cbn [fst snd] in *.
    destruct (decode_spec D F) as (_ & Dc & _).
    destruct P as [|[p d] P].
    - destruct D as [|e D]; [discriminate|]. inversion E; subst. cbn [fst snd] in *. lia.
    - inversion A as [|? ? (_ & _ & Ad) _]; subst. destruct (join_spec D d F Ad) as (_ & J & _).
      destruct (Z.leb_spec b (count D)); [|destruct (Z.leb_spec p c)]; inversion E; subst; cbn [fst snd] in *; lia.
  Qed.

  (** RAD's contents stay tidy, and a batch serves as many tokens as it says. *)
  Lemma tidy_come x r : tidy x -> aligned r -> tidy (rad_come x r).
  Proof.
    intros (A & F & L) Ar. unfold tidy, rad_come. cbn [fst snd]. repeat split; auto.
    apply Forall_app. auto.
  Qed.

  Lemma tokens_come x r : tokens (rad_come x r) = tokens x + size r.
  Proof. unfold tokens, rad_come. cbn [fst snd]. rewrite map_app, total_app. cbn. lia. Qed.

  Lemma tokens_cons r P D : tokens (r :: P, D) = size r + tokens (P, D).
  Proof. unfold tokens. cbn. unfold size. lia. Qed.

  Lemma tokens_nonneg x : tidy x -> 0 <= tokens x.
  Proof.
    intros (A & F & _). destruct (decode_spec _ F) as (_ & _ & _ & U & _).
    pose proof (count_nonneg (snd x)). unfold tokens.
    enough (0 <= total (map size (fst x))) by lia.
    clear -A. induction A as [|r P (H1 & _ & H2) _ IH]; cbn; [lia|].
    fold (total (map size P)). unfold size at 1. lia.
  Qed.

  Lemma tidy_start x n y : tidy x -> rad b c x = Some (n, y) ->
    tidy y /\ 1 <= n /\ tokens y = tokens x - n.
  Proof.
    intros H E. pose proof H as (A & F & L). destruct (rad_decodes_bound _ _ _ H E) as [Lb _].
    destruct x as [P D]. unfold rad in E. cbn [fst snd] in *.
    destruct (decode_spec D F) as (Fd & Dc & Dt & Du & _).
    destruct P as [|[p d] P].
    - destruct D as [|e D]; [discriminate|]. inversion E; subst. unfold tidy, tokens. cbn [fst snd] in *.
      rewrite Dt. repeat split; auto; try (unfold count; cbn [length]; lia); cbn [map total fold_right]; lia.
    - inversion A as [|? ? Ap A']; subst. pose proof Ap as (A1 & A2 & A3).
      destruct (join_spec D d F A3) as (Fj & _ & Tj). destruct (whole_chunk _ Ap) as [W1 W2]. cbn [fst snd] in *.
      rewrite tokens_cons. unfold size. cbn [fst snd].
      destruct (Z.leb_spec b (count D)); [|destruct (Z.leb_spec p c)]; inversion E; subst; unfold tidy;
        rewrite ?tokens_cons; unfold size; cbn [fst snd] in *; (split; [split; [|split]|split]); auto; try lia.
      + unfold tokens. cbn [fst snd]. lia.
      + unfold tokens. cbn [fst snd]. lia.
      + constructor; auto. unfold aligned. cbn [fst snd]. repeat split; try lia.
        apply Z.divide_sub_r; [exact A2|apply Z.divide_refl].
  Qed.

  Lemma idle_empty x : rad b c x = None -> tokens x = 0.
  Proof.
    destruct x as [[|[p d] P] [|e D]]; cbn [rad fst snd]; unfold rad; cbn [fst snd]; try discriminate; try reflexivity;
      destruct (b <=? _); try discriminate; destruct (p <=? c); discriminate.
  Qed.

  (** Few decodes, little work: a batch of RAD that is not full leaves at most n * dmax tokens, its own among them. *)
  Lemma drained_work x n y : tidy x -> rad b c x = Some (n, y) -> fst x = [] -> n = count (snd x) ->
    tokens x <= n * dmax.
  Proof.
    intros (_ & F & _) _ E ->. destruct (decode_spec _ F) as (_ & _ & _ & _ & V).
    unfold tokens. rewrite E. cbn [map total fold_right]. lia.
  Qed.
End Batches.

(** * The sandwich *)

Section Sandwich.
  Variables b c dmax tau nu : Z.
  Hypothesis b_pos : 1 <= b.
  Hypothesis c_pos : 1 <= c.
  Hypothesis tile_chunk : (b | c).
  Hypothesis d_pos : 1 <= dmax.
  Hypothesis tau_nonneg : 0 <= tau.
  Hypothesis nu_nonneg : 0 <= nu.
  Hypothesis work_costs : 0 < tile_price b tau nu.

  (** States of RAD at all instants of all runs from the empty engine, with any aligned arrivals. *)
  Definition rad_reached : state node -> Prop :=
    reached node (Z * Z) size (aligned c dmax) rad_come (rad_start b c) (rad_idle b c)
      (tile_time b tau nu) (tile_price b tau nu) ([], []).

  (** W and K0, in the unit 1/b. *)
  Definition rad_backlog : state node -> Q := backlog node tokens (tile_time b tau nu) (tile_price b tau nu).
  Definition rad_constant : Z := tile_price b tau nu * (b - 1) * dmax + tau.

  Lemma aligned_work r : aligned c dmax r -> 0 <= tile_price b tau nu * size r.
  Proof. intros (H1 & _ & H2). unfold size. nia. Qed.

  Lemma tidy_empty : tidy b c dmax ([], []).
  Proof. repeat split; cbn; auto. unfold count. cbn. lia. Qed.

  Lemma rad_serves x n y : tidy b c dmax x -> rad_start b c x n y ->
    1 <= n /\ tile_price b tau nu * n <= tile_time b tau nu n /\ tokens y = tokens x - n /\ 0 <= tokens y.
  Proof.
    intros H E. destruct (tidy_start b c dmax b_pos c_pos _ _ _ H E) as (Y & N & S).
    repeat split; auto; [apply tile_rate; assumption|]. eapply (tokens_nonneg b c dmax); eassumption.
  Qed.

  Lemma rad_constant_nonneg : 0 <= rad_constant.
  Proof. unfold rad_constant. nia. Qed.

  Lemma rad_full_or_small x n y : tidy b c dmax x -> rad_start b c x n y ->
    tile_time b tau nu n = tile_price b tau nu * n
    \/ tile_price b tau nu * tokens x + (tile_time b tau nu n - tile_price b tau nu * n) <= rad_constant.
  Proof.
    intros H E. destruct (rad_full_or_drained b c dmax c_pos tile_chunk _ _ _ H E) as [F|(P & N & B)].
    - left. apply tile_full; assumption.
    - right. pose proof (drained_work b c dmax c_pos _ _ _ H E P N) as D.
      rewrite tile_part by lia. unfold rad_constant.
      apply (Z.mul_le_mono_nonneg_l _ _ (tile_price b tau nu)) in D; [|lia].
      assert (tau <= tile_price b tau nu * dmax) by (unfold tile_price in *; nia). nia.
  Qed.

  (** What RAD keeps at every instant: |D| <= b, aligned prompts, at most dmax tokens per decoding request. *)
  Theorem rad_tidy s : rad_reached s -> tidy b c dmax (content _ s).
  Proof.
    intros Re. enough (sound node tokens (tile_time b tau nu) (tile_price b tau nu) (tidy b c dmax) s) by apply H.
    revert Re. apply (reached_sound node (Z * Z) tokens size (aligned c dmax));
      auto using aligned_work, tidy_empty, tokens_come, rad_serves.
    - intros. apply tidy_come; assumption.
    - intros x n y H E. apply (tidy_start b c dmax b_pos c_pos _ _ _ H E).
  Qed.

  (** The sandwich of RAD on one engine: for all arrivals of aligned requests, at every instant,
      Q* <= W <= Q* + K0, K0 = w (b - 1) dmax + tau in the unit 1/b, that is w (b - 1) d_max + tau / b in seconds.
      Assumes the tile law without attention, prompts that are multiples of the chunk, the chunk a multiple of b, ample
      memory, no cycles, no interrupted batches.  The left side holds for every policy (Tile.ideal_below).
      Source: our derivation (theory 3.4). *)
  Theorem rad_sandwich s : rad_reached s ->
    (inject_Z (ideal _ s) <= rad_backlog s <= inject_Z (ideal _ s + rad_constant))%Q.
  Proof.
    apply (sandwich node (Z * Z) tokens size (aligned c dmax)) with (good := tidy b c dmax);
      auto using aligned_work, tidy_empty, tokens_come, rad_serves, rad_constant_nonneg.
    - intros. apply tidy_come; assumption.
    - intros x n y H E. apply (tidy_start b c dmax b_pos c_pos _ _ _ H E).
    - intros x _ E. eapply idle_empty. exact E.
    - exact rad_full_or_small.
  Qed.

  (** Q* is the fluid server's backlog: the largest A[a, t] - (t - a) over the windows that end now, and at least 0.
      Source: Lindley (published). *)
  Theorem rad_ideal s : rad_reached s -> is_sup (now _ s) (hist _ s) (ideal _ s).
  Proof. apply (ideal_is_sup _ _ tokens), aligned_work. Qed.

  (** Envelope: if A[a, t] <= sigma + rho (t - a) for all 0 <= a <= t = now, rho = rn / rd <= 1, then
      W(t) <= sigma + K0.  Same assumptions.  Source: our derivation (theory 3.4). *)
  Theorem rad_sigma_rho s sigma rn rd :
    rad_reached s -> 0 <= sigma -> 0 < rd -> rn <= rd ->
    (forall a, 0 <= a <= now _ s -> rd * since a (hist _ s) <= rd * sigma + rn * (now _ s - a)) ->
    (rad_backlog s <= inject_Z (sigma + rad_constant))%Q.
  Proof.
    intros Re S0 R0 R1 Env. destruct (rad_sandwich _ Re) as [_ U]. eapply Qle_trans; [exact U|].
    rewrite <- Zle_Qle. destruct (rad_ideal _ Re) as (_ & _ & [E|(a & Ha & E)]); [lia|].
    specialize (Env a Ha). nia.
  Qed.
End Sandwich.

(** * Pigeonhole *)

(** P1, first half: n requests of 1..Lmax tokens that hold more than (b - 1) * Lmax tokens are at least b.
    Source: our derivation (theory 3.5). *)
Theorem pigeonhole b Lmax l :
  0 <= Lmax -> Forall (fun r => 1 <= r <= Lmax) l -> (b - 1) * Lmax < total l -> b <= count l.
Proof.
  intros P F H. assert (E : total l <= count l * Lmax).
  { clear H. unfold count. induction F as [|r l Hr _ IH]; cbn [total fold_right length]; [lia|].
    fold (total l). rewrite Nat2Z.inj_succ. nia. }
  nia.
Qed.

(** P1, second half: if every request may be given a token at least, then a policy that fills its batches up to b tokens
    (work conservation) serves exactly b.  `loadable` are the tokens each request may be given now.
    Source: our derivation (theory 3.5). *)
Theorem work_conserving_full b Lmax l loadable : 0 <= Lmax ->
  Forall (fun r => 1 <= r <= Lmax) l -> (b - 1) * Lmax < total l ->
  Forall2 (fun r a => 1 <= a <= r) l loadable -> Z.min b (total loadable) = b.
Proof.
  intros P F H G. pose proof (pigeonhole _ _ _ P F H).
  enough (count l <= total loadable) by lia.
  clear -G. unfold count. induction G as [|r a l m Hr _ IH]; cbn [length total fold_right]; [lia|].
  fold (total m). lia.
Qed.

Print Assumptions rad_batch.
Print Assumptions rad_full_or_drained.
Print Assumptions rad_decodes_bound.
Print Assumptions pigeonhole.
Print Assumptions work_conserving_full.
Print Assumptions rad_tidy.
Print Assumptions rad_sandwich.
Print Assumptions rad_ideal.
Print Assumptions rad_sigma_rho.
