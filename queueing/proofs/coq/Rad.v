(** RAD on one engine (policies/rad.py; Bari, Hegde, de Veciana, arXiv 2508.01002, algorithm 1), without cycles and with
    ample memory: full batches, at most b decodes, and a backlog within K0 of the ideal fluid server's.

    Notation: b tokens of a tile; c tokens of a prompt chunk, a multiple of b; a request is (p, d), unserved prompt tokens
    and decode tokens; P waiting prompts, oldest first; D unserved tokens of the decoding requests; the rest as in
    Tile.v.  Unit of time and work: see Tile.v; there w = tau + nu * b and K0 = w * (b - 1) * dmax + tau. *)

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

  (** Batches of RAD: a batch is one chunk of the oldest prompt, started with fewer than b decodes, or one token of every
      decoding request, started with b of them or with no prompt waiting.
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

(** * Pigeonhole *)

(** P1, first half: n requests of 1..Lmax tokens that hold more than (b - 1) * Lmax tokens are at least b.
    Source: our derivation (theory 3.5). *)
Theorem pigeonhole b Lmax l : 0 <= Lmax -> Forall (fun r => 1 <= r <= Lmax) l -> (b - 1) * Lmax < total l -> b <= count l.
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
