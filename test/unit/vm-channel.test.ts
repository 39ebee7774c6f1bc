import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LineSplitter, parseControl } from '../../vm/channel.ts';

test('control lines', () => {
  expect(parseControl('started 6.12.117+deb13-cloud-amd64')).toEqual({
    type: 'started',
    release: '6.12.117+deb13-cloud-amd64',
  });
  expect(parseControl('exited 0')).toEqual({ type: 'exited', status: 0 });
  expect(parseControl('exited 137')).toEqual({ type: 'exited', status: 137 });
  expect(parseControl('sent 10 0 3000')).toEqual({ type: 'sent', stdout: 10, stderr: 0, dmesg: 3000 });
  expect(parseControl('done')).toEqual({ type: 'done' });
});

test.each([
  '',
  'started',
  'started ',
  'exited',
  'exited 256',
  'exited -1',
  'exited 0x1',
  'exited 1 2',
  'sent 1 2',
  'sent 1 2 x',
  'sent 1  3',
  'done 1',
  'Done',
  'gone',
])('no control line: "%s"', (line) => {
  expect(parseControl(line)).toBeUndefined();
});

test('lines arrive whole, however the stream is cut', () => {
  const lines = fc.array(fc.string({ unit: 'grapheme' }).map((text) => text.replace(/[\r\n]/g, '')));
  fc.assert(
    fc.property(lines, fc.array(fc.nat()), fc.constantFrom('\n', '\r\n'), (expected, cuts, lineEnd) => {
      const stream = Buffer.from(expected.map((line) => line + lineEnd).join(''));
      const splitter = new LineSplitter();
      const found: string[] = [];
      let from = 0;
      for (const to of [
        ...cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b),
        stream.length,
      ]) {
        found.push(...splitter.push(stream.subarray(from, to)));
        from = to;
      }
      expect([...found, ...splitter.end()]).toEqual(expected);
    }),
  );
});

test('a last line without its end', () => {
  const splitter = new LineSplitter();
  expect(splitter.push(Buffer.from('one\ntw'))).toEqual(['one']);
  expect(splitter.end()).toEqual(['tw']);
  expect(splitter.end()).toEqual([]);
});
