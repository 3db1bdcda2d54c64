(** What VTC's bounds rest on: runs of a few events in which they fail when a rule or a hypothesis of Vtc.v is dropped.

    A run is a list of events that is played by computation.  Played with the rules of VTC it is a run of the system of
    Vtc.v (theorem play_sound); with a rule altered it is what that scheduler does.  Costs are wp for a token of input
    and wq for one of output.  Source: the runs are our derivation; the one without a lift on an empty queue is what the
    published code does (VTC-artifact, policy of the paper). *)

From Coq Require Import ZArith Lia Arith Bool List.
From Tandem Require Import Counters Vtc.
Import ListNotations.
Local Open Scope Z_scope.

(** What a scheduler may do otherwise. *)
Record rules := {
  never : bool;      (** no lift at all *)
  unless_empty : bool;  (** no lift when nobody waits *)
  lower : bool;      (** the lift may lower a counter *)
  anybody : bool;    (** admit any client that waits *)
  overcommit : bool; (** reserve no outputs *)
  stale : bool       (** do not keep the last client to leave *)
}.

Definition vtc : rules :=
  {| never := false; unless_empty := false; lower := false; anybody := false; overcommit := false; stale := false |}.

Inductive event :=
| Come (u : nat)                                      (** a request of u, which waits *)
| Enter (a : nat) (inp out : Z) (stays : bool)        (** a is admitted, and waits with more or not *)
| Prefill (d : list Z)                                (** tokens of client 0, 1, ... *)
| Decode (d : list Z)
| Leave (a : nat) (x y : Z).                          (** x tokens of a are released, and y not needed *)

Section Play.
  Variable N : nat.
  Variables M L wp wq : Z.
  Variable whole : bool.
  Variable k : nat -> Z.
  Variable how : rules.

  (** The least counter in Q. *)
  Fixpoint lowest (n : nat) (s : state) : option Z :=
    match n with
    | O => None
    | S j => if Q s j then Some (match lowest j s with None => c s j | Some x => Z.min x (c s j) end) else lowest j s
    end.

  Definition lift (s : state) (u : nat) : Z :=
    if never how then c s u
    else match lowest N s with Some x => x | None => if unless_empty how then c s u else c s (last s) end.

  Definition raise : Z -> Z -> Z := if lower how then fun _ x => x else Z.max.

  Definition next (s : state) (a : nat) : bool :=
    Q s a && (anybody how || match lowest N s with Some x => c s a <=? x | None => false end).

  Definition room (s : tokens) (inp out : Z) : bool :=
    (0 <=? inp) && (inp <=? L) && (0 <=? out)
    && (if overcommit how then sum N (fun i => m s i - r s i) + inp <=? M else sum N (m s) + inp + out <=? M).

  Definition parts (d : list Z) (i : nat) : Z := nth i d 0.
  Definition upto (d : list Z) (f : nat -> Z) : bool :=
    forallb (fun i => (0 <=? parts d i) && (parts d i <=? f i)) (seq 0 (length d)).

  Definition forget (s : state) (l : nat) : state :=
    if stale how then {| c := c s; R := R s; srv := srv s; Q := Q s; v := v s; last := l |} else s.

  Definition one (s : tokens) (e : event) : option tokens :=
    match e with
    | Come u => if (u <? N)%nat && negb (Q (core s) u) then Some (t_arrived raise s u (lift (core s) u)) else None
    | Enter a inp out stays =>
        if (a <? N)%nat && next (core s) a && room s inp out then
          let t := t_admitted wp wq whole k s a inp out stays in
          Some {| core := forget (core t) (last (core s)); w := w t; r := r t; m := m t |}
        else None
    | Prefill d => if upto d (w s) then Some (t_prefilled wp k s (parts d)) else None
    | Decode d =>
        if upto d (r s) && (negb (overcommit how) || (sum N (fun i => m s i - r s i + parts d i) <=? M))
        then Some (t_decoded wq k s (parts d)) else None
    | Leave a x y =>
        if (a <? N)%nat && (0 <=? x) && (0 <=? y) && (y <=? r s a) && (w s a + (r s a - y) <=? m s a - (x + y))
        then Some (t_finished wq s a x y) else None
    end.

  Definition all_wait (who : list nat) (s : tokens) : bool := forallb (Q (core s)) who.

  (** The events one after the other, while all of `who` wait in every state. *)
  Fixpoint play (who : list nat) (s : tokens) (es : list event) : option tokens :=
    if all_wait who s then
      match es with
      | [] => Some s
      | e :: es => match one s e with Some t => play who t es | None => None end
      end
    else None.
End Play.

(** ** Played with the rules of VTC, a run is one of the system *)

Lemma lowest_spec s n : match lowest n s with
  | None => forall i, (i < n)%nat -> Q s i = false
  | Some x =>
      (exists j, (j < n)%nat /\ Q s j = true /\ x = c s j) /\ forall i, (i < n)%nat -> Q s i = true -> x <= c s i
  end.
Proof.
  induction n as [|n IH]; cbn; [intros; lia|].
  assert (Below : forall i, (i < S n)%nat -> i = n \/ (i < n)%nat) by lia.
  destruct (Q s n) eqn:Qn; destruct (lowest n s) as [x|].
  - destruct IH as [(j & Hj & Qj & E) Le]. split.
    + destruct (Z.le_gt_cases x (c s n)); [exists j|exists n]; repeat split; auto; lia.
    + intros i Hi Qi. destruct (Below i Hi) as [->|Hi']; [lia|]. pose proof (Le i Hi' Qi). lia.
  - split; [exists n; repeat split; auto|]. intros i Hi Qi. destruct (Below i Hi) as [->|Hi']; [lia|].
    rewrite IH in Qi by auto. discriminate.
  - destruct IH as [(j & Hj & Qj & E) Le]. split; [exists j; repeat split; auto|].
    intros i Hi Qi. destruct (Below i Hi) as [->|Hi']; [congruence|auto].
  - intros i Hi. destruct (Below i Hi) as [->|Hi']; auto.
Qed.

Lemma upto_spec d f : (forall i, 0 <= f i) -> upto d f = true -> forall i, 0 <= parts d i <= f i.
Proof.
  unfold upto, parts. rewrite forallb_forall. intros Pos H i. destruct (Nat.lt_ge_cases i (length d)) as [Hi|Hi].
  - specialize (H i). rewrite in_seq in H. specialize (H ltac:(lia)). lia.
  - rewrite nth_overflow by exact Hi. pose proof (Pos i). lia.
Qed.

Section Sound.
  Variable N : nat.
  Variables M L wp wq : Z.
  Variable whole : bool.
  Variable k : nat -> Z.

  Definition goes : tokens -> tokens -> Prop := tstep N wp wq whole k (reserve N M L) Z.max.

  Lemma one_sound s e t : kept wp wq whole s -> one N M L wp wq whole k vtc s e = Some t -> goes s t.
  Proof.
    intros H. destruct e as [u|a inp out stays|d|d|a x y]; unfold one, goes.
    - destruct ((u <? N)%nat && negb (Q (core s) u)) eqn:E; [|discriminate]. intros [= <-].
      rewrite andb_true_iff, negb_true_iff, Nat.ltb_lt in E. destruct E as [Hu Qu].
      unfold raise, lift; cbn [lower never unless_empty vtc]. apply t_arrive; auto.
      pose proof (lowest_spec (core s) N) as Lo. destruct (lowest N (core s)) as [x|]; [left; exact Lo|right; auto].
    - destruct ((a <? N)%nat && next N vtc (core s) a && room N M L vtc s inp out) eqn:E; [|discriminate].
      intros [= <-]. rewrite !andb_true_iff, Nat.ltb_lt in E. destruct E as [[Ha Nx] Ro].
      unfold next, room in *. cbn in Nx, Ro. rewrite !andb_true_iff, !Z.leb_le in *. destruct Nx as [Qa Nx].
      pose proof (lowest_spec (core s) N) as Lo. destruct (lowest N (core s)) as [x|]; [|discriminate].
      rewrite Z.leb_le in Nx. destruct Lo as [_ Le].
      change (goes s (t_admitted wp wq whole k s a inp out stays)). apply t_admit; try lia.
      + repeat split; auto. intros i Hi Qi. pose proof (Le i Hi Qi). lia.
      + unfold reserve. lia.
    - destruct (upto d (w s)) eqn:E; [|discriminate]. intros [= <-]. apply t_prefill.
      apply upto_spec; auto. intros i. apply (K0 _ _ _ _ H).
    - cbn. rewrite andb_true_r. destruct (upto d (r s)) eqn:E; [|discriminate]. intros [= <-]. apply t_decode.
      apply upto_spec; auto. intros i. apply (K0 _ _ _ _ H).
    - destruct (_ && _) eqn:E; [|discriminate]. intros [= <-].
      rewrite !andb_true_iff, Nat.ltb_lt, !Z.leb_le in E. apply t_finish; lia.
  Qed.

  Theorem play_sound who s es t : kept wp wq whole s -> play N M L wp wq whole k vtc who s es = Some t ->
    run goes (fun s => forall i, In i who -> waits i s) s t.
  Proof.
    intros H E. assert (W : all_wait who s = true) by (destruct es; cbn in E; destruct (all_wait who s); congruence).
    assert (Wait : forall s, all_wait who s = true -> forall i, In i who -> waits i s).
    { intros x Hx. unfold all_wait in Hx. rewrite forallb_forall in Hx. exact Hx. }
    enough (G : forall b a, kept wp wq whole a -> run goes (fun s => forall i, In i who -> waits i s) s a ->
      play N M L wp wq whole k vtc who a b = Some t -> run goes (fun s => forall i, In i who -> waits i s) s t)
      by (apply (G es s); auto; apply here; auto).
    clear E. induction b as [|e b IH]; intros a Ka Run E; cbn in E; destruct (all_wait who a); try discriminate.
    - injection E as <-. exact Run.
    - destruct (one N M L wp wq whole k vtc a e) as [z|] eqn:O; [|discriminate].
      pose proof (one_sound a e z Ka O) as St.
      assert (Wz : all_wait who z = true) by (destruct b; cbn in E; destruct (all_wait who z); congruence).
      apply (IH z); auto.
      + eapply kept_step; eauto.
      + eapply further; eauto.
  Qed.
End Sound.

(** ** Controls *)

(** c f - c g after the events, if both wait. *)
Definition gap_after N M L wp wq whole k how es f g : option Z :=
  match play N M L wp wq whole k how [] empty es with
  | Some t => if Q (core t) f && Q (core t) g then Some (c (core t) f - c (core t) g) else None
  | None => None
  end.

(** Service of f and of g while the second events happen and all of `who` wait. *)
Definition gains_after N M L wp wq whole k how who before es f g : option (Z * Z) :=
  match play N M L wp wq whole k how [] empty before with
  | Some s => match play N M L wp wq whole k how who s es with
              | Some t => Some (gain s t f, gain s t g)
              | None => None
              end
  | None => None
  end.

Lemma gap_reached N M L wp wq whole k es f g x : gap_after N M L wp wq whole k vtc es f g = Some x ->
  exists s, reached N wp wq whole k (reserve N M L) Z.max s /\ waits f s /\ waits g s
    /\ c (core s) f - c (core s) g = x.
Proof.
  unfold gap_after. destruct (play _ _ _ _ _ _ _ _ _ _ _) as [t|] eqn:E; [|discriminate].
  destruct (Q (core t) f && Q (core t) g) eqn:W; [|discriminate]. intros [= <-]. apply andb_true_iff in W.
  exists t. repeat split; try apply W.
  apply (play_sound _ _ _ _ _ _ _ _ _ _ _ (kept_empty _ _ _)) in E. unfold reached.
  clear -E. induction E; [apply here; exact I|eapply further; eauto].
Qed.

Lemma gains_reached N M L wp wq whole k who before es f g x y :
  gains_after N M L wp wq whole k vtc who before es f g = Some (x, y) ->
  exists s t, reached N wp wq whole k (reserve N M L) Z.max s
    /\ run (goes N M L wp wq whole k) (fun s => forall i, In i who -> waits i s) s t
    /\ gain s t f = x /\ gain s t g = y.
Proof.
  unfold gains_after. destruct (play _ _ _ _ _ _ _ _ _ _ before) as [s|] eqn:E; [|discriminate].
  destruct (play _ _ _ _ _ _ _ _ _ s es) as [t|] eqn:F; [|discriminate]. intros [= <- <-].
  assert (Run : run (goes N M L wp wq whole k) (fun _ => True) empty s).
  { apply (play_sound _ _ _ _ _ _ _ _ _ _ _ (kept_empty _ _ _)) in E. clear -E.
    induction E; [apply here; exact I|eapply further; eauto]. }
  exists s, t. repeat split; [exact Run|]. apply (play_sound _ _ _ _ _ _ _ _ _ es _); [|exact F].
  eapply kept_run; [apply kept_empty|exact Run].
Qed.

Definition equal : nat -> Z := fun _ => 1.

(** A request of one input and one output token of client u, from its admission to its end. *)
Definition served (u : nat) (stays : bool) : list event := [Enter u 1 1 stays; Decode (repeat 0 u ++ [1]); Leave u 2 0].
Definition again (n : nat) (es : list event) : list event := concat (repeat es n).

(** The published constant is too small if wp > wq: prices 2 and 1, 10 tokens of memory, prompts of 5. *)
Theorem published_constant_fails : ~ forall N M L wp wq s f g, 0 <= L <= M -> 0 <= wp -> 0 < wq ->
  plain_reached N M L wp wq s -> (f < N)%nat -> (g < N)%nat -> waits f s -> waits g s ->
  c (core s) f - c (core s) g <= Z.max (wp * L) (wq * M).
Proof.
  intros H. destruct (gap_reached 2 10 5 2 1 true equal [Come 0; Come 1; Enter 0 5 5 true; Decode [5]] 0 1 15)
    as (s & Re & W0 & W1 & E); [vm_compute; reflexivity|].
  specialize (H 2%nat 10 5 2 1 s 0%nat 1%nat ltac:(lia) ltac:(lia) ltac:(lia) Re ltac:(lia) ltac:(lia) W0 W1). lia.
Qed.

(** So is twice it for the service of two clients that wait: 30, for 20. *)
Theorem published_factor_2_fails : ~ forall N M L wp wq s t f g, 0 <= L <= M -> 0 <= wp -> 0 < wq ->
  plain_reached N M L wp wq s -> (f < N)%nat -> (g < N)%nat ->
  run (plain N M L wp wq) (fun s => waits f s /\ waits g s) s t ->
  Z.abs (gain s t f - gain s t g) <= 2 * Z.max (wp * L) (wq * M).
Proof.
  intros H. destruct (vtc_tight_2U 10 5 2 1 ltac:(lia) ltac:(lia) ltac:(lia)) as (s & t & Re & Run & E).
  specialize (H 2%nat 10 5 2 1 s t 0%nat 1%nat ltac:(lia) ltac:(lia) ltac:(lia) Re ltac:(lia) ltac:(lia) Run).
  unfold Ustar in E. lia.
Qed.

(** Prompts charged by chunks: U* = 15 is too small, the gap is 18; max(wp, wq) M = 20. *)
Theorem chunked_needs_more : ~ fair 2 2 1 false equal equal 1 (reserve 2 10 5) Z.max (Ustar 2 1 10 5).
Proof.
  intros H. destruct (gap_reached 2 10 5 2 1 false equal
    [Come 0; Enter 0 4 1 true; Enter 0 4 1 true; Come 1; Prefill [8]; Decode [2]] 0 1 18)
    as (s & Re & W0 & W1 & E); [vm_compute; reflexivity|].
  pose proof (gap (pairs H) s 0%nat 1%nat Re ltac:(lia) ltac:(lia) W0 W1) as B. unfold equal, Ustar in B. lia.
Qed.

(** Weights: U/f_f + U/f_g is too small in T3, for weights 2, 1, 1: client 1 gets 7 while 0 waits and gets nothing. *)
Theorem weights_need_the_least : ~ forall s t f g,
  let weight := parts [2; 1; 1] in let k := parts [1; 2; 2] in
  reached 3 1 1 true k (reserve 3 4 1) Z.max s -> (f < 3)%nat -> (g < 3)%nat ->
  run (tstep 3 1 1 true k (reserve 3 4 1) Z.max) (waits f) s t ->
  weight f * gain s t g - weight g * gain s t f <= (weight f + weight g) * Ustar 1 1 4 1.
Proof.
  intros H. destruct (gains_reached 3 4 1 1 1 true (parts [1; 2; 2]) [0%nat]
    [Come 2; Come 1; Enter 2 1 3 true; Decode [0; 0; 3]; Leave 2 4 0; Enter 1 1 3 false; Come 0]
    [Decode [0; 3]; Leave 1 4 0; Come 1; Enter 1 1 3 true; Decode [0; 3]] 0 1 0 7)
    as (s & t & Re & Run & E0 & E1); [vm_compute; reflexivity|].
  specialize (H s t 0%nat 1%nat Re ltac:(lia) ltac:(lia)). cbn in H. unfold Ustar in H.
  assert (W : run (tstep 3 1 1 true (parts [1; 2; 2]) (reserve 3 4 1) Z.max) (waits 0) s t).
  { assert (Wait : forall x : tokens, (forall i, In i [0%nat] -> waits i x) -> waits 0 x)
      by (intros x Hx; apply Hx; left; reflexivity).
    clear -Run Wait. induction Run; [apply here; auto|eapply further; eauto]. }
  specialize (H W). rewrite E0, E1 in H. vm_compute in H. apply H. reflexivity.
Qed.

(** The constants of Vtc.v are attained, by runs of VTC:
    T1 with weights 1 and 2, of U/1 + U/2 = 6 for U = 4: client 1 gets 12, over its weight 6, and 0 nothing;
    T3 with weights 2, 1, 1, of 2U/1 = 8: client 1 gets 8;
    T1 with chunks at prices 2 and 1, of 2 max(wp, wq) M = 40: client 1 gets 40. *)
Example constants_attained :
  gains_after 2 4 1 1 1 true (parts [2; 1]) vtc [0%nat; 1%nat]
    [Come 0; Come 1; Enter 0 0 4 true; Decode [4]; Leave 0 4 0]
    (again 3 [Enter 1 0 4 true; Decode [0; 4]; Leave 1 4 0]) 0 1 = Some (0, 12)
  /\ gains_after 3 4 1 1 1 true (parts [1; 2; 2]) vtc [0%nat]
    [Come 2; Come 1; Enter 2 0 4 true; Decode [0; 0; 4]; Leave 2 4 0; Enter 1 0 4 false; Come 0]
    [Decode [0; 4]; Leave 1 4 0; Come 1; Enter 1 0 4 true; Decode [0; 4]] 0 1 = Some (0, 8)
  /\ gains_after 2 10 5 2 1 false equal vtc [0%nat; 1%nat]
    (Come 0 :: Come 1 :: again 2 [Enter 0 5 0 true] ++ [Prefill [10]; Leave 0 10 0])
    (again 2 (again 2 [Enter 1 5 0 true] ++ [Prefill [0; 10]; Leave 1 10 0])) 0 1 = Some (0, 40).
Proof. vm_compute. repeat split. Qed.

(** ** With a rule altered; two clients, prices 1, U* = M *)

(** Without a lift if nobody waits a client that was alone owes all that it got: 50 requests, gap 100, U* = 2. *)
Example no_lift_if_nobody_waits :
  gap_after 2 2 1 1 1 true equal
    {| never := false; unless_empty := true; lower := false; anybody := false; overcommit := false; stale := false |}
    (again 50 (Come 1 :: served 1 false) ++ [Come 0; Come 1]) 1 0 = Some 100.
Proof. vm_compute. reflexivity. Qed.

(** Without any lift, one that comes has the credit of its absence. *)
Example no_lift :
  gap_after 2 2 1 1 1 true equal
    {| never := true; unless_empty := false; lower := false; anybody := false; overcommit := false; stale := false |}
    (Come 1 :: again 50 (served 1 true) ++ [Come 0]) 1 0 = Some 100.
Proof. vm_compute. reflexivity. Qed.

(** If the last client to leave is not kept, the lift is to a counter of long ago. *)
Example last_not_kept :
  gap_after 2 2 1 1 1 true equal
    {| never := false; unless_empty := false; lower := false; anybody := false; overcommit := false; stale := true |}
    (again 50 (Come 1 :: served 1 false) ++ [Come 0; Come 1]) 1 0 = Some 100.
Proof. vm_compute. reflexivity. Qed.

(** If outputs are not reserved, three requests of client 0 fit that end one after the other, the memory never
    overflows, and the gap is 8, U* = 6. *)
Example outputs_not_reserved :
  gap_after 2 6 1 1 1 true equal
    {| never := false; unless_empty := false; lower := false; anybody := false; overcommit := true; stale := false |}
    [Come 0; Enter 0 1 5 true; Enter 0 1 2 true; Enter 0 1 1 true; Come 1;
     Decode [3]; Leave 0 2 0; Decode [2]; Leave 0 3 0; Decode [3]] 0 1 = Some 8.
Proof. vm_compute. reflexivity. Qed.

(** If anybody may be admitted, one of two waiting clients gets all: 100 to 0, 2U* = 4. *)
Example anybody_admitted :
  gains_after 2 2 1 1 1 true equal
    {| never := false; unless_empty := false; lower := false; anybody := true; overcommit := false; stale := false |}
    [0%nat; 1%nat] [Come 0; Come 1] (again 50 (served 1 true)) 0 1 = Some (0, 100).
Proof. vm_compute. reflexivity. Qed.

(** If a lift may lower, a client that leaves and returns loses its debt, and gets all while another waits: 100 to 0,
    and 2U* = 4.  The bounds between waiting clients hold still (vtc_lowered). *)
Example lift_lowers :
  gains_after 2 2 1 1 1 true equal
    {| never := false; unless_empty := false; lower := true; anybody := false; overcommit := false; stale := false |}
    [0%nat] [Come 0] (again 50 (Come 1 :: served 1 false)) 0 1 = Some (0, 100).
Proof. vm_compute. reflexivity. Qed.

(** VTC itself refuses the runs in which it has a choice, and keeps to its bounds in the others. *)
Example vtc_on_these_runs :
  gap_after 2 2 1 1 1 true equal vtc (again 50 (Come 1 :: served 1 false) ++ [Come 0; Come 1]) 1 0 = Some 0
  /\ gap_after 2 2 1 1 1 true equal vtc (Come 1 :: again 50 (served 1 true) ++ [Come 0]) 1 0 = Some 0
  /\ gap_after 2 6 1 1 1 true equal vtc [Come 0; Enter 0 1 5 true; Enter 0 1 2 true] 0 0 = None
  /\ gains_after 2 2 1 1 1 true equal vtc [0%nat; 1%nat] [Come 0; Come 1] (again 2 (served 1 true)) 0 1 = None
  /\ gains_after 2 2 1 1 1 true equal vtc [0%nat] [Come 0] (again 2 (Come 1 :: served 1 false)) 0 1 = None.
Proof. vm_compute. repeat split. Qed.

Print Assumptions play_sound.
Print Assumptions published_constant_fails.
Print Assumptions published_factor_2_fails.
Print Assumptions chunked_needs_more.
Print Assumptions weights_need_the_least.
Print Assumptions constants_attained.
Print Assumptions no_lift_if_nobody_waits.
Print Assumptions no_lift.
Print Assumptions last_not_kept.
Print Assumptions outputs_not_reserved.
Print Assumptions anybody_admitted.
Print Assumptions lift_lowers.
Print Assumptions vtc_on_these_runs.
