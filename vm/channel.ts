// What the guest tells the host besides the command's own output: lines on a port of their own.
//
//   started RELEASE            the command is about to run under this kernel
//   exited STATUS              the command has ended
//   sent STDOUT STDERR DMESG   how many bytes went out through the other ports
//   done                       nothing is missing; only with this line is the status to be believed

export type ControlMessage =
  | { readonly type: 'started'; readonly release: string }
  | { readonly type: 'exited'; readonly status: number }
  | { readonly type: 'sent'; readonly stdout: number; readonly stderr: number; readonly dmesg: number }
  | { readonly type: 'done' };

/** Undefined for a line that is not of the protocol. */
export function parseControl(line: string): ControlMessage | undefined {
  const [type, ...values] = line.split(' ');
  const numbers = values.map((value) => (/^\d+$/.test(value) ? Number(value) : NaN));
  const [first = NaN, second = NaN, third = NaN] = numbers;
  if (type === 'started' && values.length === 1 && values[0]) return { type, release: values[0] };
  if (type === 'exited' && values.length === 1 && first <= 255) return { type, status: first };
  if (type === 'sent' && values.length === 3 && !numbers.includes(NaN)) {
    return { type, stdout: first, stderr: second, dmesg: third };
  }
  if (type === 'done' && values.length === 0) return { type };
  return undefined;
}

/** Cuts a stream of bytes into lines; what comes in pieces goes out whole. */
export class LineSplitter {
  #rest = '';
  readonly #decoder = new TextDecoder();

  push(chunk: Uint8Array): string[] {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.map((line) => line.replace(/\r+$/, ''));
  }

  /** The last line, if the stream ended within it. */
  end(): string[] {
    const rest = this.#rest;
    this.#rest = '';
    return rest === '' ? [] : [rest.replace(/\r+$/, '')];
  }
}
