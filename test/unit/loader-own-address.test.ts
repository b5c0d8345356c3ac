/** Which of a device's addresses the node goes by. */
import { expect, test } from "vitest"
import type { Address } from "../../services/common/kernel/rtnetlink.ts"
import {
  AddressFollower,
  describeAddresses,
  followAddresses,
  sameAddresses,
} from "../../services/dataplane-loader/own-address.ts"

const four = (last: number, usable = true): Address => ({
  ifindex: 2,
  family: 4,
  bytes: Uint8Array.of(192, 0, 2, last),
  usable,
})
const six = (last: number, usable = true): Address => ({
  ifindex: 2,
  family: 6,
  bytes: new Uint8Array(16).with(0, 0x20).with(15, last),
  usable,
})
const A1 = 0xc0000201
const own = { ipv4: A1, ipv6: undefined }

test("an address that is still there stays, also beside others", () => {
  expect(followAddresses(own, [four(9), four(1)])).toEqual(own)
})

test("one that is gone gives way to the first that can be used", () => {
  expect(followAddresses(own, [four(7, false), six(1), four(9)]).ipv4).toBe(0xc0000209)
})

test("with none in its place it stays, and a family that the node doesn't use is left alone", () => {
  expect(followAddresses(own, [])).toEqual(own)
  expect(followAddresses(own, [six(3)])).toEqual(own)
})

test("IPv6 alike", () => {
  const before = { ipv4: undefined, ipv6: six(1).bytes }
  expect(followAddresses(before, [six(1)])).toEqual(before)
  const after = followAddresses(before, [six(2)])
  expect(after.ipv6).toEqual(six(2).bytes)
  expect([sameAddresses(before, after), sameAddresses(before, { ...before })]).toEqual([false, true])
})

test("said for people", () => {
  expect(describeAddresses({ ipv4: A1, ipv6: six(2).bytes })).toBe("192.0.2.1 2000::2")
})

const follow = () => {
  const wire = { news: false, fails: false, present: [four(1)] as ReadonlyArray<Address>, moves: 0 }
  const follower = new AddressFollower(own, {
    changed: () => {
      const { news } = wire
      wire.news = false
      return news
    },
    present: () => wire.present,
    move: () => {
      wire.moves++
      if (wire.fails) throw new Error("refused")
    },
  })
  return { wire, follower }
}

test("a move that failed is tried again at the next look, without more news", () => {
  const { wire, follower } = follow()
  Object.assign(wire, { news: true, fails: true, present: [four(7)] })
  expect(() => follower.look(true)).toThrow("refused")
  expect(follower.current).toEqual(own)
  wire.fails = false
  expect([follower.look(true), follower.current.ipv4, wire.moves]).toEqual([true, A1 + 6, 2])
  expect([follower.look(true), wire.moves]).toEqual([false, 2])
})

test("what changed before there was news is followed at the first look, and only then", () => {
  const { wire, follower } = follow()
  wire.present = [four(7)]
  expect([follower.look(true), follower.current.ipv4]).toEqual([true, A1 + 6])
  wire.present = [four(8)]
  expect([follower.look(true), wire.moves]).toEqual([false, 1])
})

test("news that came while nothing may be written is followed later", () => {
  const { wire, follower } = follow()
  Object.assign(wire, { news: true, present: [four(7)] })
  expect([follower.look(false), wire.moves]).toEqual([false, 0])
  expect([follower.look(true), follower.current.ipv4]).toEqual([true, A1 + 6])
})
