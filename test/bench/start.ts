import { execa } from 'execa';
import { atMost, median, ours, seconds } from './bench.ts';

export async function start(): Promise<void> {
  console.log('start-up time …');
  const [node, version]: number[][] = [[], []];
  for (let i = 0; i < 21; i++) {
    node.push(await seconds(() => execa(process.execPath, ['-e', '0'])));
    version.push(await seconds(() => ours('--version')));
  }
  atMost(2, '--version, time of node -e 0', median(version) / median(node));
}
