;; MurmurHash3 x64 128, seed 0, over `prefix || unit`, where the prefix (a salt or a segment id and its `|`)
;; was digested ahead of time: only the unit's own bytes are hashed per request.
;;
;; A *record* is 40 bytes: h1 i64, h2 i64 (state after the prefix's whole blocks), the prefix's last 16 bytes,
;; its length i32. A *unit* lies at an address with 16 free bytes before it and 16 zero bytes after it.
(module
  (memory (export "memory") 1)

  ;; Digest the whole 16-byte blocks of [p, end); returns the state.
  (func $blocks (param $p i32) (param $end i32) (param $h1 i64) (param $h2 i64) (result i64 i64)
    (local $k i64)
    (local.set $end (i32.sub (local.get $end) (i32.const 16)))
    (block $done
      (loop $next
        (br_if $done (i32.gt_s (local.get $p) (local.get $end)))
        (local.set $k (i64.mul (i64.load (local.get $p)) (i64.const 0x87c37b91114253d5)))
        (local.set $k (i64.mul (i64.rotl (local.get $k) (i64.const 31)) (i64.const 0x4cf5ad432745937f)))
        (local.set $h1 (i64.rotl (i64.xor (local.get $h1) (local.get $k)) (i64.const 27)))
        (local.set $h1 (i64.add (i64.mul (i64.add (local.get $h1) (local.get $h2)) (i64.const 5)) (i64.const 0x52dce729)))
        (local.set $k (i64.mul (i64.load offset=8 (local.get $p)) (i64.const 0x4cf5ad432745937f)))
        (local.set $k (i64.mul (i64.rotl (local.get $k) (i64.const 33)) (i64.const 0x87c37b91114253d5)))
        (local.set $h2 (i64.rotl (i64.xor (local.get $h2) (local.get $k)) (i64.const 31)))
        (local.set $h2 (i64.add (i64.mul (i64.add (local.get $h2) (local.get $h1)) (i64.const 5)) (i64.const 0x38495ab5)))
        (local.set $p (i32.add (local.get $p) (i32.const 16)))
        (br $next)))
    (local.get $h1)
    (local.get $h2))

  (func $finish (param $k i64) (result i64)
    (local.set $k (i64.mul (i64.xor (local.get $k) (i64.shr_u (local.get $k) (i64.const 33))) (i64.const 0xff51afd7ed558ccd)))
    (local.set $k (i64.mul (i64.xor (local.get $k) (i64.shr_u (local.get $k) (i64.const 33))) (i64.const 0xc4ceb9fe1a85ec53)))
    (i64.xor (local.get $k) (i64.shr_u (local.get $k) (i64.const 33))))

  ;; Both words of the hash of record || unit.
  (func $hash (param $record i32) (param $unit i32) (param $length i32) (result i64 i64)
    (local $p i32) (local $end i32) (local $h1 i64) (local $h2 i64) (local $k i64) (local $total i64)
    (i64.store (i32.sub (local.get $unit) (i32.const 16)) (i64.load offset=16 (local.get $record)))
    (i64.store (i32.sub (local.get $unit) (i32.const 8)) (i64.load offset=24 (local.get $record)))
    (local.set $p (i32.sub (local.get $unit) (i32.and (i32.load offset=32 (local.get $record)) (i32.const 15))))
    (local.set $end (i32.add (local.get $unit) (local.get $length)))
    (local.set $total (i64.extend_i32_u (i32.add (i32.load offset=32 (local.get $record)) (local.get $length))))
    (call $blocks (local.get $p) (local.get $end) (i64.load (local.get $record)) (i64.load offset=8 (local.get $record)))
    (local.set $h2)
    (local.set $h1)
    ;; The tail: what lies behind the unit is zero, and a zero word mixes to nothing.
    (local.set $p (i32.add (local.get $p) (i32.and (i32.sub (local.get $end) (local.get $p)) (i32.const -16))))
    (local.set $k (i64.mul (i64.load offset=8 (local.get $p)) (i64.const 0x4cf5ad432745937f)))
    (local.set $k (i64.mul (i64.rotl (local.get $k) (i64.const 33)) (i64.const 0x87c37b91114253d5)))
    (local.set $h2 (i64.xor (local.get $h2) (local.get $k)))
    (local.set $k (i64.mul (i64.load (local.get $p)) (i64.const 0x87c37b91114253d5)))
    (local.set $k (i64.mul (i64.rotl (local.get $k) (i64.const 31)) (i64.const 0x4cf5ad432745937f)))
    (local.set $h1 (i64.xor (local.get $h1) (local.get $k)))
    (local.set $h1 (i64.xor (local.get $h1) (local.get $total)))
    (local.set $h2 (i64.xor (local.get $h2) (local.get $total)))
    (local.set $h1 (i64.add (local.get $h1) (local.get $h2)))
    (local.set $h2 (i64.add (local.get $h2) (local.get $h1)))
    (local.set $h1 (call $finish (local.get $h1)))
    (local.set $h2 (call $finish (local.get $h2)))
    (local.set $h1 (i64.add (local.get $h1) (local.get $h2)))
    (local.get $h1)
    (i64.add (local.get $h2) (local.get $h1)))

  ;; Make a record of the prefix at [prefix, prefix + length); 16 readable bytes must lie before it.
  (func (export "prepare") (param $record i32) (param $prefix i32) (param $length i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $prefix) (local.get $length)))
    (i64.store offset=16 (local.get $record) (i64.load (i32.sub (local.get $end) (i32.const 16))))
    (i64.store offset=24 (local.get $record) (i64.load (i32.sub (local.get $end) (i32.const 8))))
    (i32.store offset=32 (local.get $record) (local.get $length))
    (local.get $record)
    (call $blocks (local.get $prefix) (local.get $end) (i64.const 0) (i64.const 0))
    (call $store_words))

  (func $store_words (param $at i32) (param $h1 i64) (param $h2 i64)
    (i64.store (local.get $at) (local.get $h1))
    (i64.store offset=8 (local.get $at) (local.get $h2)))

  ;; (low word >> 4) mod count; count > 0.
  (func (export "bucket") (param $record i32) (param $unit i32) (param $length i32) (param $count i32) (result i32)
    (call $hash (local.get $record) (local.get $unit) (local.get $length))
    (drop)
    (i64.const 4)
    (i64.shr_u)
    (i64.extend_i32_u (local.get $count))
    (i64.rem_u)
    (i32.wrap_i64))

  ;; Both words, stored at `out` (low word first).
  (func (export "words") (param $record i32) (param $unit i32) (param $length i32) (param $out i32)
    (local.get $out)
    (call $hash (local.get $record) (local.get $unit) (local.get $length))
    (call $store_words)))
