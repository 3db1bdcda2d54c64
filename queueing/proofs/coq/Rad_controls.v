(** Negative controls: what fails without the assumptions of Rad.v and Tile.v.  Runs are computed. *)

From Coq Require Import ZArith QArith Lia List.
From Tandem Require Import Tile Rad.
Import ListNotations.
Local Open Scope Z_scope.

(** * Runs of RAD by computation *)

Inductive move := Arrive (r : Z * Z) | Wait (dt : Z) | Serve.

Section Play.
  Variable fits : Z * Z -> Prop.
  Variable allowed : Z * Z -> bool.
  Hypothesis allowed_fits : forall r, allowed r = true -> fits r.
  Variables b c tau nu : Z.

  Definition play_one (s : state node) (m : move) : option (state node) :=
    let 'State _ t x n u h q := s in
    match m with
    | Arrive r => if allowed r
        then let work := tile_price b tau nu * size r in Some (State _ t (rad_come x r) n u ((t, work) :: h) (q + work))
        else None
    | Wait dt => if (0 <=? dt) && (dt <=? u)
        then Some (State _ (t + dt) x n (u - dt) h (Z.max 0 (q - dt))) else None
    | Serve => if u =? 0
        then match rad b c x with
             | Some (m, y) => Some (State _ t y m (tile_time b tau nu m) h q)
             | None => None
             end
        else None
    end.

  Fixpoint play (s : state node) (l : list move) : option (state node) :=
    match l with
    | [] => Some s
    | m :: l' => match play_one s m with Some s' => play s' l' | None => None end
    end.

  Definition start0 : state node := State _ 0 ([], []) 0 0 [] 0.

  (** RAD with the requests that fit, aligned or not. *)
  Definition played : state node -> Prop :=
    reached node (Z * Z) size fits rad_come (rad_start b c) (rad_idle b c)
      (tile_time b tau nu) (tile_price b tau nu) ([], []).

  Lemma play_reached l : forall s s', played s -> play s l = Some s' -> played s'.
  Proof.
    induction l as [|m l IH]; cbn; intros s s' R E; [inversion E; subst; exact R|].
    destruct (play_one s m) as [s1|] eqn:M; [|discriminate].
    apply (IH s1); [|exact E]. eapply Next; [exact R|]. clear - M allowed_fits.
    destruct s as [t x n u h q]. destruct m as [r|dt|]; cbn in M.
    - destruct (allowed r) eqn:Ar; inversion M; subst. constructor. apply allowed_fits, Ar.
    - destruct (Z.leb_spec 0 dt), (Z.leb_spec dt u); inversion M; subst. constructor. lia.
    - destruct (Z.eqb_spec u 0) as [->|]; [|discriminate].
      destruct (rad b c x) as [[k y]|] eqn:Er; inversion M; subst. constructor. exact Er.
  Qed.
End Play.

(** A played state whose backlog exceeds Q* + K. *)
Definition escapes (allowed : Z * Z -> bool) (b c tau nu K : Z) : Prop :=
  exists s, played (fun r => allowed r = true) b c tau nu s /\ (inject_Z (ideal _ s + K) < rad_backlog b tau nu s)%Q.

Ltac by_playing l :=
  eexists; split;
  [eapply (play_reached _ _ (fun _ E => E) _ _ _ _ l start0); [apply Empty | vm_compute; reflexivity]
  | vm_compute; reflexivity].

(** * The sandwich *)

(** Prompts that are no multiple of the chunk: b = c = 4, prompts of one token, tau = 1, nu = 0, K0 = 4.  Each batch
    wastes three quarters of a tile; after two batches the excess is 6. *)
Example misaligned_prompts : escapes (fun r => (fst r =? 1) && (snd r =? 0)) 4 4 1 0 (rad_constant 4 1 1 0).
Proof. by_playing (repeat (Arrive (1, 0)) 8 ++ [Serve; Wait 4; Serve; Wait 4]). Qed.

(** A chunk that is no multiple of b: the same with c = 1, which every prompt is a multiple of. *)
Example small_chunks : escapes (fun r => (fst r =? 1) && (snd r =? 0)) 4 1 1 0 (rad_constant 4 1 1 0).
Proof. by_playing (repeat (Arrive (1, 0)) 8 ++ [Serve; Wait 4; Serve; Wait 4]). Qed.

(** More decode tokens than dmax: the constant for dmax = 1 does not cover requests with 8. *)
Example long_decodes : escapes (fun r => (fst r =? 4) && (snd r =? 8)) 4 4 1 0 (rad_constant 4 1 1 0).
Proof. by_playing [Arrive (4, 8); Serve; Wait 4; Serve; Wait 4; Serve; Wait 4]. Qed.

(** K0 is needed: with the claim W <= Q* even one aligned request escapes, and only between events.  b = 4, one chunk
    and one decode token, tau = 4, nu = 0: at the start and at the end of the decode W = Q*, and in between
    Q* = 0 < W. *)
Definition one_request : list move := [Arrive (4, 1); Serve; Wait 16; Serve].
Definition excess (l : list move) : option Q :=
  option_map (fun s => Qred (rad_backlog 4 4 0 s - inject_Z (ideal _ s))) (play (fun _ => true) 4 4 4 0 start0 l).
Example excess_between_events :
  (excess one_request = Some 0 /\ excess (one_request ++ [Wait 4]) = Some 3
   /\ excess (one_request ++ [Wait 16]) = Some 0)%Q.
Proof. vm_compute. auto. Qed.

(** An engine that may idle with work present: Q* runs empty, W stays, whatever K. *)
Example idling_escapes K : 0 <= K ->
  exists s, reached Z Z (fun r => r) (fun r => 0 <= r) Z.add (fun _ _ _ => False) (fun _ => True) (fun n => n) 1 0 s
            /\ (inject_Z (ideal _ s + K) < backlog Z (fun x => x) (fun n => n) 1 s)%Q.
Proof.
  intros H. eexists. split.
  - eapply Next; [eapply Next; [apply Empty|]|].
    + apply (Come _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ (K + 1)). lia.
    + apply (Idle _ _ _ _ _ _ _ _ _ _ _ _ _ _ (K + 1)); [lia|exact I].
  - unfold backlog. cbn [content batch rest ideal]. rewrite Z.max_l by lia.
    unfold Qlt, Qplus, Qdiv, Qmult, inject_Z. cbn -[Z.mul Z.add]. lia.
Qed.

(** * Envelopes *)

(** For rho = 2 no constant bounds W: b = c = 1, tau = 1, nu = 0, two prompts of one token per unit
    of time.  The arrivals keep A[a, t] <= 2 (t - a) at the instants below, and W grows by one per unit. *)
Fixpoint twice (k : nat) : list (Z * Z) :=
  match k with
  | O => []
  | S j => (Z.of_nat j, 1) :: (Z.of_nat j, 1) :: twice j
  end.

Lemma twice_past k t x : In (t, x) (twice k) -> t < Z.of_nat k.
Proof.
  induction k as [|k IH]; [intros []|]. cbn [twice In]. intros [E|[E|E]]; [inversion E; lia|inversion E; lia|].
  specialize (IH E). lia.
Qed.

Lemma twice_since k a : 0 <= a <= Z.of_nat k -> since a (twice k) = 2 * (Z.of_nat k - a).
Proof.
  induction k as [|k IH]; intros H; [cbn [twice since]; lia|]. cbn [twice since].
  destruct (Z.leb_spec a (Z.of_nat k)) as [L|G]; [specialize (IH ltac:(lia)); lia|].
  rewrite since_later; [nia|]. intros t x E. apply twice_past in E. lia.
Qed.

Definition round (k : nat) : state node :=
  State _ (Z.of_nat k) (repeat (1, 0) k, []) (if (k =? 0)%nat then 0 else 1) 0 (twice k) (Z.of_nat k).

Lemma unit_tokens k : tokens (repeat (1, 0) k, []) = Z.of_nat k.
Proof.
  induction k as [|k IH]; [reflexivity|]. cbn [repeat]. rewrite tokens_cons, IH. unfold size. cbn [fst snd]. lia.
Qed.

Lemma unit_prompts r : (fst r =? 1) && (snd r =? 0) = true -> aligned 1 1 r.
Proof.
  intros E. apply andb_prop in E. destruct E as [E1 E2]. apply Z.eqb_eq in E1, E2.
  unfold aligned. rewrite E1, E2. repeat split; try lia. apply Z.divide_refl.
Qed.

Lemma come_repeat r k : rad_come (repeat r k, []) r = (repeat r (S k), []).
Proof. unfold rad_come. cbn [fst snd]. rewrite <- repeat_cons. reflexivity. Qed.

Lemma rounds k : rad_reached 1 1 1 1 0 (round k).
Proof.
  induction k as [|k IH]; [apply Empty|].
  apply (play_reached (aligned 1 1) (fun r => (fst r =? 1) && (snd r =? 0)) unit_prompts _ _ _ _
    [Arrive (1, 0); Arrive (1, 0); Serve; Wait 1] _ _ IH).
  unfold round. cbn [play play_one fst snd Z.eqb Pos.eqb andb]. rewrite come_repeat.
  cbn [play play_one fst snd Z.eqb Pos.eqb andb]. rewrite come_repeat. cbn [repeat].
  cbn -[Z.of_nat Z.add Z.max Z.sub twice count tile_time tile_price size].
  change (1 <=? count []) with false. change (tile_price 1 1 0 * size (1, 0)) with 1.
  cbn -[Z.of_nat Z.add Z.max Z.sub twice count tile_time]. change (tile_time 1 1 0 1) with 1.
  cbn -[Z.of_nat Z.add Z.max Z.sub twice]. f_equal. f_equal; cbn [twice]; lia.
Qed.

(** The load of 2 is within its envelope (sigma = 0, rho = 2), and W exceeds every H. *)
Theorem no_envelope_above_one H : 0 <= H ->
  exists s, rad_reached 1 1 1 1 0 s
            /\ (forall a, 0 <= a <= now _ s -> 1 * since a (hist _ s) <= 1 * 0 + 2 * (now _ s - a))
            /\ (inject_Z H < rad_backlog 1 1 0 s)%Q.
Proof.
  intros H0. exists (round (Z.to_nat (H + 1))).
  assert (E : Z.of_nat (Z.to_nat (H + 1)) = H + 1) by lia. revert E. generalize (Z.to_nat (H + 1)). intros k E.
  split; [apply rounds|]. split.
  - unfold round. cbn [now hist]. intros a Ha. rewrite (twice_since k a Ha). lia.
  - unfold rad_backlog. rewrite backlog_boundary by reflexivity. cbn [round content].
    rewrite unit_tokens, E. rewrite <- Zlt_Qlt. change (tile_price 1 1 0) with 1. lia.
Qed.

(** * Pigeonhole *)

(** Batches of prefill alone or decodes alone: with b = 5, two prompts and three decodes, one token of each loadable,
    either kind has at most 3 tokens at any amount of work, although all requests together may be given b. *)
Definition kinds (requests : list (bool * Z)) (kind : bool) : Z :=
  Z.of_nat (length (filter (fun r => Bool.eqb (fst r) kind) requests)).

Example unmixed_batches L : 1 <= L ->
  exists requests, Forall (fun r => 1 <= r <= L) (map snd requests) /\ (5 - 1) * L < total (map snd requests)
    /\ count (map snd requests) = 5 /\ Z.max (kinds requests true) (kinds requests false) = 3.
Proof.
  intros H. exists (map (fun k => (k, L)) [true; true; false; false; false]).
  split; [repeat constructor; cbn; lia|]. split; [cbn [map total fold_right snd]; lia|]. split; reflexivity.
Qed.

(** Fewer requests may hold as much as (b - 1) * Lmax: the bound of the pigeonhole is sharp. *)
Example pigeonhole_sharp b Lmax : 1 <= b -> 1 <= Lmax ->
  exists l, Forall (fun r => 1 <= r <= Lmax) l /\ total l = (b - 1) * Lmax /\ count l = b - 1.
Proof.
  intros B L. exists (repeat Lmax (Z.to_nat (b - 1))).
  assert (E : Z.of_nat (Z.to_nat (b - 1)) = b - 1) by lia. revert E. generalize (Z.to_nat (b - 1)). intros k E.
  rewrite <- E.
  unfold count. rewrite repeat_length. split; [|split; [|reflexivity]].
  - apply Forall_forall. intros r Hr. apply repeat_spec in Hr. lia.
  - clear E. induction k as [|k IH]; [reflexivity|]. cbn [repeat total fold_right]. fold (total (repeat Lmax k)). lia.
Qed.

Print Assumptions misaligned_prompts.
Print Assumptions small_chunks.
Print Assumptions long_decodes.
Print Assumptions excess_between_events.
Print Assumptions idling_escapes.
Print Assumptions no_envelope_above_one.
Print Assumptions unmixed_batches.
Print Assumptions pigeonhole_sharp.
