// Names the files of a tree whose fragments cost most when they are read, and writes nothing.
//
//   node examples/worst.mjs DIRECTORY [COUNT]
import { check } from 'ext4-defrag';

const [directory, count = '10'] = process.argv.slice(2);
if (directory === undefined) {
  console.error('worst: name a directory, a mount point or a mounted device');
  process.exit(2);
}

const files = [];
for await (const event of check([directory])) {
  if (event.type === 'file' && event.fragments > event.idealFragments) files.push(event);
  else if (event.type === 'failed' || event.type === 'unsupported')
    console.error(`${event.path}: ${event.message}`);
  else if (event.type === 'summary') {
    const lost = ({ readSeconds, idealReadSeconds }) => readSeconds - idealReadSeconds;
    files.sort((a, b) => lost(b) - lost(a));
    for (const file of files.slice(0, Number(count))) {
      console.log(`${lost(file).toFixed(3)} s\t${file.fragments} fragments\t${file.path}`);
    }
    console.log(`${event.fragmentedFiles} of ${event.files} files are in more fragments than need be`);
    process.exitCode = event.failed + event.unsupported > 0 ? 1 : 0;
  }
}
