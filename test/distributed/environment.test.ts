// Which launcher is believed, of those that have left something in the environment.

import { meetingAddress, meetingPort, placeIn, placeOfMpi } from '../../lib/distributed/environment';

const torchrun = { RANK: '1', WORLD_SIZE: '4', LOCAL_RANK: '0' };
const openMpi = { OMPI_COMM_WORLD_RANK: '2', OMPI_COMM_WORLD_SIZE: '5', OMPI_COMM_WORLD_LOCAL_RANK: '1' };
const hydra = { PMI_RANK: '3', PMI_SIZE: '6', MPI_LOCALRANKID: '0' };
const pmi = { PMI_RANK: '3', PMI_SIZE: '6' };
const srun = { SLURM_PROCID: '4', SLURM_NTASKS: '7', SLURM_LOCALID: '2', SLURM_STEP_ID: '0' };
const kubernetes = { JOB_COMPLETION_INDEX: '5', WORLD_SIZE: '8' };

const is = (launcher: string, rank: number, size: number, localRank: number | null, mpi: boolean): object => ({
  launcher,
  rank,
  size,
  localRank,
  mpi,
});
const nobody = { launcher: null, rank: 0, size: 1, localRank: null, mpi: false };
const isTorchrun = is('torchrun', 1, 4, 0, false);
const isOpenMpi = is('Open MPI', 2, 5, 1, true);
const isHydra = is('PMI', 3, 6, 0, true);
const isPmi = is('PMI', 3, 6, null, true);
const isSlurm = is('SLURM', 4, 7, 2, false);

it.each([
  ['nobody', {}, nobody],
  ['torchrun', torchrun, isTorchrun],
  ['torchrun without LOCAL_RANK', { RANK: '0', WORLD_SIZE: '1' }, is('torchrun', 0, 1, null, false)],
  ["Open MPI's mpirun", openMpi, isOpenMpi],
  ["MPICH's mpirun", hydra, isHydra],
  ['another PMI', pmi, isPmi],
  ['srun', srun, isSlurm],
  ['Kubernetes', kubernetes, is('Kubernetes', 5, 8, null, false)],
  ['torchrun under all others', { ...openMpi, ...hydra, ...srun, ...kubernetes, ...torchrun }, isTorchrun],
  ['torchrun, whose RANK is empty, under SLURM', { ...srun, RANK: '', WORLD_SIZE: '4' }, isSlurm],
  ["Open MPI's mpirun in a job of SLURM", { ...openMpi, ...srun }, isOpenMpi],
  ["MPICH's mpirun in a job of SLURM, where srun starts its servants", { ...hydra, ...srun }, isHydra],
  ['srun --mpi=pmi2', { ...pmi, ...srun }, isSlurm],
  ['the script of a SLURM job', { ...srun, SLURM_STEP_ID: undefined }, nobody],
  ['the script of a SLURM job, as step "batch"', { ...srun, SLURM_STEP_ID: '4294967291' }, nobody],
  ["MPICH's mpirun in that script", { ...hydra, ...srun, SLURM_STEP_ID: undefined }, isHydra],
])('%s', (_, env, place) => {
  expect(placeIn(env)).toEqual(place);
});

it.each([
  ['RANK is not a number', { RANK: 'first', WORLD_SIZE: '2' }, 'RANK is "first"'],
  ['RANK is negative', { RANK: '-1', WORLD_SIZE: '2' }, 'RANK is "-1"'],
  ['RANK is a fraction', { RANK: '0.5', WORLD_SIZE: '2' }, 'RANK is "0.5"'],
  ['RANK has a space', { RANK: ' 1', WORLD_SIZE: '2' }, 'RANK is " 1"'],
  ['RANK is enormous', { RANK: '99999999999', WORLD_SIZE: '2' }, 'RANK is "99999999999"'],
  ['RANK without WORLD_SIZE', { RANK: '0' }, 'RANK is set, but WORLD_SIZE is not set'],
  ['WORLD_SIZE is empty', { RANK: '0', WORLD_SIZE: '' }, 'RANK is set, but WORLD_SIZE is ""'],
  ['WORLD_SIZE is 0', { RANK: '0', WORLD_SIZE: '0' }, 'RANK is 0, which must be below WORLD_SIZE, 0'],
  ['RANK is not below WORLD_SIZE', { RANK: '2', WORLD_SIZE: '2' }, 'RANK is 2, which must be below WORLD_SIZE, 2'],
  ['LOCAL_RANK is not a number', { ...torchrun, LOCAL_RANK: 'x' }, 'RANK is set, but LOCAL_RANK is "x"'],
  ['an indexed job without WORLD_SIZE', { JOB_COMPLETION_INDEX: '0' }, 'but WORLD_SIZE is not set'],
])('is refused: %s', (_, env, words) => {
  expect(() => placeIn(env)).toThrow(expect.objectContaining({ name: 'StateError', code: 'ERR_ENVIRONMENT' }));
  expect(() => placeIn(env)).toThrow(words);
  expect(() => placeIn(env)).toThrow(/^initProcessGroup: in the environment \(\w+'s variables\) /);
});

it('does not look for what is known', () => {
  expect(placeIn({ RANK: 'x', WORLD_SIZE: 'y' }, { rank: 1, size: 3 })).toMatchObject({ rank: 1, size: 3 });
  expect(placeIn({ RANK: '2' }, { size: 3 })).toMatchObject({ launcher: 'torchrun', rank: 2, size: 3 });
  expect(placeIn({ RANK: 'x', WORLD_SIZE: '3' }, { rank: 1 })).toMatchObject({ rank: 1, size: 3 });
  expect(placeIn({}, { size: 3 })).toMatchObject({ launcher: null, rank: 0, size: 3 });
});

it('asks nobody who starts no programs of MPI about MPI', () => {
  expect(placeOfMpi({ ...torchrun, ...kubernetes })).toEqual(nobody);
  expect(placeOfMpi({ ...torchrun, ...hydra })).toEqual(isHydra);
  expect(placeOfMpi({ ...torchrun, ...openMpi })).toEqual(isOpenMpi);
  expect(placeOfMpi(srun)).toEqual(isSlurm);
});

it('says where ranks meet', () => {
  expect([meetingAddress({}), meetingPort({})]).toEqual(['127.0.0.1', 29500]);
  expect([meetingAddress({ MASTER_ADDR: '' }), meetingPort({ MASTER_PORT: '' })]).toEqual(['127.0.0.1', 29500]);
  expect([meetingAddress({ MASTER_ADDR: 'a' }), meetingPort({ MASTER_PORT: '65535' })]).toEqual(['a', 65535]);
  for (const port of ['0', '65536', '-1', '80.5', 'http', '0x50']) {
    expect(() => meetingPort({ MASTER_PORT: port })).toThrow(
      expect.objectContaining({ code: 'ERR_ENVIRONMENT', message: expect.stringContaining(`but is "${port}"`) }),
    );
  }
});
