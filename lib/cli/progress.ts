// A bar on a terminal, by cli-progress where it is installed; nothing elsewhere.

export interface Bar {
  update(done: number, note: string): void;
  stop(): void;
}

const none: Bar = { update: () => {}, stop: () => {} };

export async function progressBar(total: number): Promise<Bar> {
  if (!process.stderr.isTTY) return none;
  try {
    const { default: progress } = await import('cli-progress');
    const format = '{bar} {value}/{total} files  {note}  {eta_formatted} left';
    const bar = new progress.SingleBar({ format, stream: process.stderr, hideCursor: true, clearOnComplete: true }, progress.Presets.shades_classic); // prettier-ignore
    bar.start(total, 0, { note: '' });
    return { update: (done, note) => bar.update(done, { note }), stop: () => bar.stop() };
  } catch {
    return none; // it is only a bar
  }
}
