/** The thread of reading.ts: reads one text, answers, ends. */
import { parentPort, workerData } from "node:worker_threads";
import { readDocuments } from "../resources/documents.ts";

const { text, file }: { text: string; file: string } = workerData;
parentPort?.postMessage(readDocuments(text, file));
