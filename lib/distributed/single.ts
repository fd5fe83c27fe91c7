// A group of one: all there is to do has been done.

import { Kind, Outcome, type Collective, type Ended, type Engine } from './engine';

export class SingleEngine implements Engine {
  readonly name = 'single';
  readonly rank = 0;
  readonly size = 1;

  run({ kind, input, output }: Collective): Ended {
    if (kind === Kind.gather) output!.set(input as never);
    return { outcome: Outcome.ok, missing: [], headers: [], detail: '' };
  }
  start(collective: Collective): Promise<Ended> {
    return Promise.resolve(this.run(collective));
  }
  split(): { ended: Ended; engine: Engine } {
    return { ended: { outcome: Outcome.ok, missing: [], headers: [], detail: '' }, engine: new SingleEngine() };
  }
  splitAsync(): Promise<{ ended: Ended; engine: Engine }> {
    return Promise.resolve(this.split());
  }
  close(): void {}
}
