// The floor: reads the body, answers a constant with the headers of the Worker's own answer.
import answer from "./answer.txt";
import headersText from "./headers.txt";

const headers = JSON.parse(headersText);

export default {
  async fetch(request) {
    await request.text();
    return new Response(answer, { headers });
  },
};
